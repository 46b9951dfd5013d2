"""Active learning: F1 after training on sentences that were selected, or drawn at random.

    python benchmarks/selection.py --data DIR --sets ner/conll2003 --limit-test 300 \
        --init training/distill/model-best --strategies random uncertain both --budget 50

For each seed, the pipeline of `--init` is first adapted to the set's few-shot sentences, which is
the start. It chooses `--budget` sentences of the pool: train sentences, drawn with the seed 0. The
pipeline of `--init` is then adapted to the few-shot sentences and the chosen ones with their gold
annotation, with configs/fewshot.cfg as it is. A strategy is STRATEGY, or STRATEGY:MEASURE, as of
`metaie select`. See benchmarks/fewshot.py for DIR. Runs that are in the results are not repeated.
Beside `--output`, which is JSON, go a Markdown table and a bar chart.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import srsly
from fewshot import (
    MEASURES,
    adapt,
    average,
    describe_run,
    find_sets,
    format_table,
    import_pyplot,
    make_digest,
    make_parser,
    make_schema,
)
from metaie.convert import convert
from metaie.docbin import read_docbin, write_docbin
from metaie.loading import get_metaie, load_pipeline
from metaie.selection import choose
from metaie.spans import get_answers
from metaie.tasks.evaluation import evaluate_schema, make_bare, read_references
from spacy.language import Language
from spacy.tokens import Doc
from tqdm import tqdm
from wasabi import msg

START = "start"


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = make_parser(__doc__, "selection.json")
    parser.add_argument("--init", required=True, help="the pipeline that is adapted")
    parser.add_argument("--budget", type=int, default=50, help="sentences to choose")
    parser.add_argument("--limit-pool", type=int, default=2000, help="train sentences; 0 is all")
    parser.add_argument("--strategies", nargs="+", default=["random", "uncertain", "both"])
    parser.add_argument("--candidates", type=int, default=10, help="as of `metaie select`")
    return parser.parse_args()


def read_pool(args: argparse.Namespace, nlp: Language, folder: Path) -> list[Doc]:
    """The annotated sentences to choose from, without those of the few-shot set."""
    key = get_metaie(nlp).key
    shots = {doc.text for doc in read_docbin(folder / "shots.spacy", nlp.vocab, key)}
    pool = [d for d in read_docbin(folder / "pool.spacy", nlp.vocab, key) if d.text not in shots]
    random.Random(0).shuffle(pool)
    return pool[: args.limit_pool or None]


def select(
    args: argparse.Namespace, nlp: Language, pool: list[Doc], name: str, strategy: str, seed: int
) -> list[Doc]:
    """The annotated docs that a strategy chooses of the pool."""
    schema = make_schema(args.data / name)
    bare = ((make_bare(doc, schema, get_metaie(nlp).key), {"at": i}) for i, doc in enumerate(pool))
    kind, _, measure = strategy.partition(":")
    settings = {"measure": measure} if measure else {}
    chosen = choose(
        nlp,
        bare,
        budget=args.budget,
        strategy=kind,  # type: ignore[arg-type]
        candidates=args.candidates,
        seed=seed,
        **settings,  # type: ignore[arg-type]
    )
    return [pool[one.extra["at"]] for one in chosen]


def score(args: argparse.Namespace, model: str, name: str, folder: Path) -> dict[str, float]:
    """F1, precision and recall (%) of the family's first measure."""
    nlp = load_pipeline(model, gpu_id=args.device)
    references = read_references(nlp, folder / "test.spacy", args.limit_test)
    what, given = next(iter(MEASURES[name.split("/")[0]].values()))
    scores = evaluate_schema(nlp, references, make_schema(args.data / name), given=given)
    figures = {letter: round(100 * scores[f"{what}_{letter}"], 2) for letter in "fpr"}
    return {"f1": figures["f"], "p": figures["p"], "r": figures["r"], "n_test": len(references)}


def run(
    args: argparse.Namespace, name: str, seed: int, strategies: list[str], folder: Path
) -> Iterator[dict[str, Any]]:
    """Adapt the start, then train on what each strategy chooses; yields a record each."""
    source = args.data / name
    schema = make_schema(source)
    shots = source / "fewshot" / f"{args.shots}.seed{seed}.jsonl"
    convert(shots, folder / "shots.spacy", schema=schema)
    convert(source / "train.jsonl", folder / "pool.spacy", schema=schema)
    convert(source / f"{args.split}.jsonl", folder / "test.spacy", schema=schema)
    nlp = load_pipeline(args.init, gpu_id=args.device)
    key = get_metaie(nlp).key
    few = list(read_docbin(folder / "shots.spacy", nlp.vocab, key))
    pool = read_pool(args, nlp, folder)

    def train(docs: list[Doc], where: Path) -> str:
        write_docbin(where / "train.spacy", docs)
        return adapt(args, args.init, seed, where)

    start = train(few, folder / START)
    if START in strategies:
        yield {"strategy": START, "sentences": len(few), **score(args, start, name, folder)}
    asker = load_pipeline(start, gpu_id=args.device)
    for i, strategy in enumerate(s for s in strategies if s != START):
        docs = select(args, asker, pool, name, strategy, seed)
        model = train([*few, *docs], folder / str(i))
        yield {
            "strategy": strategy,
            "sentences": len(few) + len(docs),
            "spans": sum(len(spans) for doc in docs for spans in get_answers(doc, key).values()),
            "tokens": sum(map(len, docs)),
            **score(args, model, name, folder),
        }


def identify(args: argparse.Namespace) -> str:
    """What tells runs apart whose settings, config or start differ."""
    settings = f"{args.shots} {args.budget} {args.limit_pool} {args.candidates} {args.limit_test}"
    return f"{make_digest(Path(args.init), args.config)} {settings}"


def run_missing(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run what the results lack, and write them after each run; returns those of these settings."""
    records = srsly.read_json(args.output) if args.output.exists() else []
    fixed = {"split": args.split, "digest": identify(args)}
    done = {
        (record["set"], record["seed"], record["strategy"])
        for record in records
        if fixed.items() <= record.items()
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for seed in tqdm(args.seeds, "Seeds"):
        for name in find_sets(args):
            wanted = [START, *args.strategies]
            missing = [strategy for strategy in wanted if (name, seed, strategy) not in done]
            if not missing:
                continue
            with tempfile.TemporaryDirectory() as folder:
                for record in run(args, name, seed, missing, Path(folder)):
                    records.append({"set": name, "seed": seed, **record, **fixed})
                    msg.good(f"{name}, seed {seed}, {record['strategy']}: F1 {record['f1']}")
                    srsly.write_json(args.output, records)
    return [record for record in records if fixed.items() <= record.items()]


def summarize(records: list[dict[str, Any]]) -> str:
    """A Markdown table, a row a set and strategy."""
    rows = []
    for name in sorted({record["set"] for record in records}):
        own = [record for record in records if record["set"] == name]
        drawn = {record["seed"]: record["f1"] for record in own if record["strategy"] == "random"}
        for strategy in dict.fromkeys(record["strategy"] for record in own):
            runs = [record for record in own if record["strategy"] == strategy]
            mean, spread, n = average(runs)
            gains = [r["f1"] - drawn[r["seed"]] for r in runs if r["seed"] in drawn]
            is_compared = gains and strategy not in (START, "random")
            rows.append(
                [
                    name,
                    strategy,
                    f"{statistics.mean(r['sentences'] for r in runs):.0f}",
                    f"{statistics.mean(r.get('tokens', 0) for r in runs):.0f}",
                    f"{statistics.mean(r.get('spans', 0) for r in runs):.0f}",
                    f"{mean:.1f} ± {spread:.1f} ({n})",
                    f"{statistics.mean(gains):+.1f}" if is_compared else "",
                    ", ".join(f"{gain:+.1f}" for gain in gains) if is_compared else "",
                ]
            )
    header = ["set", "strategy", "sentences", "tokens chosen", "spans chosen", "F1"]
    return format_table([*header, "over random", "seed by seed"], rows, 2)


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """A bar for each strategy, with the standard deviation, and a point a seed."""
    pyplot = import_pyplot()
    names = sorted({record["set"] for record in records})
    figure, panels = pyplot.subplots(
        1, len(names), figsize=(5 * len(names), 2.8), layout="constrained", squeeze=False
    )
    for axes, name in zip(panels[0], names, strict=True):
        own = [record for record in records if record["set"] == name]
        strategies = list(dict.fromkeys(record["strategy"] for record in own))[::-1]
        for place, strategy in enumerate(strategies):
            runs = [record for record in own if record["strategy"] == strategy]
            mean, spread, _ = average(runs)
            axes.barh(place, mean, 0.6, xerr=spread, color="C0", alpha=0.6, error_kw={"lw": 0.8})
            axes.plot([run["f1"] for run in runs], [place] * len(runs), "k.", markersize=4)
        axes.set_yticks(range(len(strategies)), strategies)
        low = min(record["f1"] for record in own)
        axes.set_xlim(max(0.0, low - 5), None)
        axes.set_title(name)
        axes.set_xlabel("F1 (%), mean, standard deviation, and each seed")
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Run what is missing; write the table and the chart at the end."""
    args = parse_args()
    records = run_missing(args)
    table = summarize(records)
    args.output.with_suffix(".md").write_text(
        describe_run("Selected sentences against random ones", args) + table + "\n",
        encoding="utf8",
    )
    draw(records, args.output.with_suffix(".svg"))
    print(table)


if __name__ == "__main__":
    main()
