"""Few-shot F1 against the size or kind of the base transformer, as in the paper (arXiv 2404.00457).

    python benchmarks/base_size.py --data DIR --bases assets/base assets/roberta --layers 3 \
        --sets ner/conll2003 re/conll04 --seeds 0 --limit-test 500

For each folder with a base transformer, a pipeline is distilled from the whole corpus into
`training/starts/base_<folder>`; it and the bare base are adapted to the data sets as in
benchmarks/fewshot.py. `--layers` adds the first base cut to so many of its lower layers. What is
done is not repeated. Beside `--output`, which is JSON, go a Markdown table and a plot.
"""

import argparse
from pathlib import Path
from typing import Any

from data_amount import format_f1, get_f1, get_mean
from fewshot import describe_run, format_table, import_pyplot, make_parser, run_missing
from starts import add_distillation, distil, read_corpus
from transformers import AutoModel, AutoTokenizer


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = make_parser(__doc__, "base_size.json")
    parser.add_argument("--bases", nargs="+", type=Path, required=True)
    parser.add_argument("--layers", nargs="+", type=int, default=[])
    add_distillation(parser)
    return parser.parse_args()


def cut(base: Path, n_layers: int, target: Path) -> Path:
    """Write a base that has only the lower layers of another; raises ValueError if these lack."""
    model = AutoModel.from_pretrained(base)
    if not 0 < n_layers < len(model.encoder.layer):
        raise ValueError(
            f"{str(base)!r} has {len(model.encoder.layer)} layers: it can't be cut to {n_layers}."
        )
    model.encoder.layer = model.encoder.layer[:n_layers]
    model.config.num_hidden_layers = n_layers
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(base).save_pretrained(target)
    return target


def count_parameters(base: Path) -> int:
    """How many numbers the transformer holds."""
    return int(AutoModel.from_pretrained(base).num_parameters())


def summarize(records: list[dict[str, Any]], sizes: dict[str, int]) -> str:
    """A Markdown table: each base bare and distilled, by set, and the means."""
    names = sorted({record["set"] for record in records})
    rows = []
    for base, size in sizes.items():
        for start in ("bare", "distilled"):
            f1 = [get_f1(records, name, f"{start}_{base}") for name in names]
            cells = map(format_f1, [*f1, get_mean(f1)])
            rows.append([base, start, f"{size / 1e6:.1f}M", *cells])
    return format_table(["base", "start", "parameters", *names, "mean"], rows, 2)


def plot(records: list[dict[str, Any]], sizes: dict[str, int], path: Path) -> None:
    """The mean over the sets against the number of parameters, bare and distilled."""
    pyplot = import_pyplot()
    figure, axes = pyplot.subplots(figsize=(6, 4.5), layout="constrained")
    names = sorted({record["set"] for record in records})
    for start, marker in (("distilled", "o"), ("bare", "s")):
        points = []
        for base, size in sorted(sizes.items(), key=lambda item: item[1]):
            mean = get_mean([get_f1(records, name, f"{start}_{base}") for name in names])
            if mean is not None:
                points.append((size / 1e6, mean, base))
        axes.plot([x for x, *_ in points], [y for _, y, _ in points], marker=marker, label=start)
        for x, y, base in points:
            axes.annotate(base, (x, y), (4, 6), textcoords="offset points", size=8)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks([n / 1e6 for n in sizes.values()], [f"{n / 1e6:.1f}" for n in sizes.values()])
    axes.margins(0.2)
    axes.set_xlabel("Parameters of the base (millions)")
    axes.set_ylabel(f"Few-shot F1 (%), mean of {len(names)} sets")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Distil and adapt what is missing; write the table and the plot at the end."""
    args = parse_args()
    bases = list(args.bases)
    for n_layers in args.layers:
        target = args.starts / f"{args.bases[0].name}-{n_layers}-layers"
        bases.append(target if target.exists() else cut(args.bases[0], n_layers, target))
    if len({base.name for base in bases}) < len(bases):
        raise ValueError(
            f"Give bases whose folders have different names, not {list(map(str, bases))}."
        )
    records: list[dict[str, Any]] = []
    sizes: dict[str, int] = {}
    for base in bases:
        sizes[base.name] = count_parameters(base)
        folder = args.starts / f"base_{base.name}"
        pipeline = distil(read_corpus(args.corpus), folder, args, str(base))
        args.base_model = str(base)
        records = run_missing(args, [f"bare_{base.name}", f"distilled_{base.name}={pipeline}"])
    table = summarize(records, sizes)
    text = describe_run("Few-shot F1 against the base transformer", args) + table
    args.output.with_suffix(".md").write_text(text + "\n", encoding="utf8")
    plot(records, sizes, args.output.with_suffix(".svg"))
    print(table)


if __name__ == "__main__":
    main()
