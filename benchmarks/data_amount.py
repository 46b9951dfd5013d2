"""Few-shot F1 against the amount of distillation data, as in the paper (arXiv 2404.00457).

    python benchmarks/data_amount.py --data DIR --sets ner/conll2003 re/conll04 \
        --shares 0.05 0.1 0.25 0.5 1 --seeds 0 --limit-test 500

For each share of the corpus' passages, a pipeline is distilled into `training/starts/share_<share>`
with the same number of steps, and adapted to the data sets as in benchmarks/fewshot.py. What is
done is not repeated. Beside `--output`, which is JSON, go a Markdown table and a plot.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot import (
    average,
    describe_run,
    format_table,
    import_pyplot,
    is_first,
    make_parser,
    run_missing,
)
from starts import add_distillation, distil, draw, read_corpus


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = make_parser(__doc__, "data_amount.json")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.05, 0.1, 0.25, 0.5, 1.0])
    add_distillation(parser)
    return parser.parse_args()


def get_f1(records: list[dict[str, Any]], name: str, init: str) -> float | None:
    """The mean over the seeds of a set, by its family's first measure."""
    own = [r for r in records if is_first(r) and (r["set"], r["init"]) == (name, init)]
    return average(own)[0] if own else None


def get_mean(f1: Sequence[float | None]) -> float | None:
    """The mean, if nothing is missing."""
    known = [x for x in f1 if x is not None]
    return statistics.mean(known) if known and len(known) == len(f1) else None


def format_f1(f1: float | None) -> str:
    """A cell of a table; empty where nothing was measured."""
    return "" if f1 is None else f"{f1:.1f}"


def summarize(records: list[dict[str, Any]], shares: list[float]) -> str:
    """A Markdown table, a row a set, and their mean."""
    inits = ["base", *(f"share_{share:g}" for share in shares)]
    names = sorted({record["set"] for record in records})
    header = ["set", "bare base", *(f"{100 * share:g} %" for share in shares)]
    f1 = {name: [get_f1(records, name, init) for init in inits] for name in names}
    f1["mean"] = [get_mean(own) for own in zip(*f1.values(), strict=True)]
    return format_table(header, [[name, *map(format_f1, row)] for name, row in f1.items()], 1)


def plot(records: list[dict[str, Any]], shares: list[float], path: Path) -> None:
    """A line for each set; what the bare base reaches is dotted."""
    pyplot = import_pyplot()
    figure, axes = pyplot.subplots(figsize=(6, 4.5), layout="constrained")
    for name in sorted({record["set"] for record in records}):
        points = [(100 * share, get_f1(records, name, f"share_{share:g}")) for share in shares]
        known = [(share, f1) for share, f1 in points if f1 is not None]
        (line,) = axes.plot(*zip(*known, strict=True), marker="o", markersize=4, label=name)
        bare = get_f1(records, name, "base")
        if bare is not None:
            axes.axhline(bare, color=line.get_color(), linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([100 * share for share in shares], [f"{100 * share:g}" for share in shares])
    axes.minorticks_off()
    axes.set_xlabel("Share of the corpus distilled from (%); dotted: the bare base")
    axes.set_ylabel("Few-shot F1 (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Distil and adapt what is missing; write the table and the plot at the end."""
    args = parse_args()
    inits = ["base"]
    for share in args.shares:
        folder = args.starts / f"share_{share:g}"
        pipeline = distil(draw(read_corpus(args.corpus), share), folder, args, args.base_model)
        inits.append(f"share_{share:g}={pipeline}")
    records = run_missing(args, inits)
    table = summarize(records, args.shares)
    text = describe_run("Few-shot F1 against the amount of distillation data", args) + table
    args.output.with_suffix(".md").write_text(text + "\n", encoding="utf8")
    plot(records, args.shares, args.output.with_suffix(".svg"))
    print(table)


if __name__ == "__main__":
    main()
