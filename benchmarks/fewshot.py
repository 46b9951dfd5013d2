"""Few-shot adaptation: F1 after training on a handful of sentences, from several starts.

    python benchmarks/fewshot.py --data DIR --init base en_metaie=training/distill/model-best \
        --sets ner/conll2003 re/conll04 --shots 5-per-label --seeds 0 1 2 --limit-test 500

DIR holds `<family>/<dataset>/{train,test}.jsonl` and `fewshot/<shots>.seed<n>.jsonl` beside them,
in the format that `metaie convert --schema` reads; families are ner, re, ee, srl, absa and aste. A
set's schema is drafted from its train file. Every run trains with configs/fewshot.cfg as it is, and
is measured at the config's threshold on the first test sentences; `zero_shot` at its own. `llm`
asks a large model the same queries, by a config as configs/label.cfg, and trains nothing. Runs that
are in the results are not repeated, unless the config or the start has changed since. Beside
`--output`, which is JSON, go a Markdown table and a bar chart.
"""

import argparse
import datetime
import hashlib
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import spacy
import srsly
import torch
from metaie.convert import convert, read_annotated
from metaie.loading import load_llm, load_pipeline
from metaie.tasks.draft import draft_schema
from metaie.tasks.evaluation import evaluate_schema, read_references
from metaie.tasks.schema import Schema
from spacy.cli.train import train
from tqdm import tqdm
from wasabi import msg

ROOT = Path(__file__).parents[1]
TAGGER = "components.metaie.model"
FAMILIES = {
    "ner": "entities",
    "re": "relations",
    "ee": "events",
    "srl": "roles",
    "absa": "aspects",
    "aste": "triplets",
}
# What is reported of each family, the first of all in the chart and in comparisons; and the
# name of the score, and whether the heads or predicates are given.
MEASURES = {
    "ner": {"span": ("entities", False)},
    "re": {"relation": ("relations", False), "relation, gold heads": ("relations", True)},
    "ee": {"argument": ("event_arguments", False), "trigger": ("triggers", False)},
    "srl": {"argument, gold predicates": ("frame_arguments", True)},
    "absa": {"span": ("aspects", False)},
    "aste": {"triplet": ("triplets", False)},
}
# Rarer roles are not asked, nor those that only point to another one.
MIN_ROLES = 50
POINTERS = ("reference to", "continuation of")


def make_parser(description: str | None, output: str) -> argparse.ArgumentParser:
    """The arguments of scripts that adapt to data sets; `output` is the name of their results."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    results = ROOT / "benchmarks" / "results" / output
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--sets", nargs="+", required=True, help="such as ner/conll2003, or all")
    parser.add_argument("--shots", default="5-per-label")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--limit-test", type=int, default=0, help="test sentences; 0 is all")
    parser.add_argument("--base-model", default="assets/base")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/fewshot.cfg")
    parser.add_argument("--split", default="test", help="dev, to choose settings by")
    parser.add_argument("--output", type=Path, default=results)
    parser.add_argument("--device", type=int, default=-1, help="the GPU; -1 is the CPU")
    return parser


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = make_parser(__doc__, "fewshot.json")
    parser.add_argument(
        "--init",
        nargs="+",
        required=True,
        help="starts: `base`, the bare transformer, or NAME=FOLDER, a pipeline tuned as NAME with\n"
        "its architecture. `{family}` in FOLDER is replaced, and `*` is expanded.\n"
        "`zero_shot=FOLDER` is not tuned, and so run for the first seed only; nor is\n"
        "`llm=CONFIG`, or `llm_NAME=CONFIG`, a large model",
    )
    return parser.parse_args()


@cache
def make_schema(source: Path) -> Schema:
    """The schema of a set, drafted from its train file."""
    family = FAMILIES[source.parent.name]
    schema = draft_schema(
        read_annotated(source / "train.jsonl"), family, MIN_ROLES if family == "roles" else 1
    )
    if family != "roles":
        return schema
    roles = [role for role in schema.to_dict()["roles"] if not role.startswith(POINTERS)]
    return schema.model_copy(update={"roles": roles})


def is_llm(start: str) -> bool:
    """Whether the start is a large model."""
    return start == "llm" or start.startswith("llm_")


def is_tuned(start: str) -> bool:
    """Whether the start is adapted to the shots."""
    return start != "zero_shot" and not is_llm(start)


def find_pipeline(pattern: str, family: str) -> str:
    """The one folder that a start names. Raises ValueError if it is none, or several."""
    path = Path(pattern.replace("{family}", family))
    found = sorted(path.parent.parent.glob(str(Path(path.parent.name) / path.name)))
    if len(found) != 1:
        raise ValueError(f"{str(path)!r} must be one folder, not {len(found)}.")
    return str(found[0])


@cache
def hash_file(path: Path, modified: int) -> bytes:
    """The SHA-256 of a file, which is read again only when it was modified."""
    return hashlib.sha256(path.read_bytes()).digest()


def make_digest(*paths: Path) -> str:
    """Eight hexadecimal digits that tell whether files, or files in folders, are the same.

    Of what is no path, but a name in the hub, they tell the name.
    """
    digest = hashlib.sha256()
    for path in paths:
        if not path.exists():
            digest.update(str(path).encode())
            continue
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(hash_file(file, file.stat().st_mtime_ns))
    return digest.hexdigest()[:8]


def identify(args: argparse.Namespace, name: str, init: str) -> str:
    """The digest of what a run starts from: a pipeline or a base, and the config."""
    start, _, pattern = init.partition("=")
    pipeline = Path(find_pipeline(pattern, name.split("/")[0]) if pattern else args.base_model)
    return make_digest(pipeline, args.config) if is_tuned(start) else make_digest(pipeline)


def adapt(args: argparse.Namespace, pipeline: str, seed: int, folder: Path) -> str:
    """Train on the docs in `folder`; returns where the pipeline is."""
    overrides = {
        "paths.train": str(folder / "train.spacy"),
        # The last pipeline is taken, whatever its score, so scoring is kept short.
        "paths.dev": str(folder / "train.spacy"),
        "corpora.dev.limit": 1,
        "paths.init_model": pipeline or None,
        "paths.base_model": args.base_model,
        "system.seed": seed,
        "training.logger.progress_bar": None,
    }
    if pipeline:
        tagger = spacy.util.load_config(Path(pipeline) / "config.cfg")["components"]["metaie"]
        overrides[f"{TAGGER}.@architectures"] = tagger["model"]["@architectures"]
    train(args.config, folder / "out", use_gpu=args.device, overrides=overrides)
    return str(folder / "out" / "model-last")


def run(
    args: argparse.Namespace, name: str, init: str, seed: int, folder: Path
) -> Iterator[dict[str, Any]]:
    """Train and evaluate once; yields the records for the results, one a measure."""
    start, _, pattern = init.partition("=")
    family = name.split("/")[0]
    source = args.data / name
    schema = make_schema(source)
    shots = source / "fewshot" / f"{args.shots}.seed{seed}.jsonl"
    convert(shots, folder / "train.spacy", schema=schema)
    convert(source / f"{args.split}.jsonl", folder / "test.spacy", schema=schema)
    pipeline = find_pipeline(pattern, family) if pattern else ""
    if is_llm(start):
        nlp = load_llm(Path(pipeline))
    else:
        model = adapt(args, pipeline, seed, folder) if is_tuned(start) else pipeline
        nlp = load_pipeline(model, gpu_id=args.device)
    references = read_references(nlp, folder / "test.spacy", args.limit_test)
    for what, (score, given) in MEASURES[family].items():
        scores = evaluate_schema(nlp, references, schema, given=given, progress=True)
        yield {
            "set": name,
            "family": family,
            "init": start,
            "shots": args.shots,
            "seed": seed,
            "measure": what,
            "f1": round(100 * scores[f"{score}_f"], 2),
            "p": round(100 * scores[f"{score}_p"], 2),
            "r": round(100 * scores[f"{score}_r"], 2),
            "n_test": len(references),
            "split": args.split,
            "digest": identify(args, name, init),
        }


def is_first(record: dict[str, Any]) -> bool:
    """Whether the measure is its family's first."""
    return bool(record["measure"] == next(iter(MEASURES[record["family"]])))


def average(records: Iterable[dict[str, Any]]) -> tuple[float, float, int]:
    """Mean and standard deviation of F1, and how many there are."""
    f1 = [record["f1"] for record in records]
    return statistics.mean(f1), statistics.stdev(f1) if len(f1) > 1 else 0.0, len(f1)


def format_cell(records: list[dict[str, Any]]) -> str:
    """Mean, standard deviation and number of seeds, or nothing."""
    if not records:
        return ""
    mean, spread, n = average(records)
    return f"{mean:.1f} ± {spread:.1f} ({n})" if n > 1 else f"{mean:.1f} (1)"


def summarize(records: list[dict[str, Any]]) -> str:
    """Markdown tables: every set and measure, then the means over the sets."""
    inits = list(dict.fromkeys(record["init"] for record in records))
    rows = []
    for name, what in sorted({(r["set"], r["measure"]) for r in records}):
        of_row = [r for r in records if (r["set"], r["measure"]) == (name, what)]
        cells = [format_cell([r for r in of_row if r["init"] == init]) for init in inits]
        rows.append([name, what, *cells])
    table = format_table(["set", "measure", *inits], rows, 2)
    comparison = compare(records, inits)
    return f"{table}\n\n{comparison}" if comparison else table


def format_table(header: Sequence[str], rows: Iterable[Sequence[object]], n_left: int) -> str:
    """A Markdown table, of which the first `n_left` columns hold names."""
    aligns = ["---"] * n_left + ["---:"] * (len(header) - n_left)
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [header, aligns, *rows])


def compare(records: list[dict[str, Any]], inits: list[str]) -> str:
    """A table of the starts against those that are `en_metaie`, over the sets and seeds that both
    have; nothing if there are none.
    """
    header = ["start", "against", "sets", "seeds a set", "mean of the start", "mean of the other"]
    header += ["other is better on", "worse by more than 2 on"]
    rows: list[list[object]] = []

    def index(init: str) -> dict[tuple[str, int], float]:
        own = (r for r in records if is_first(r) and r["init"] == init)
        return {(r["set"], r["seed"]): r["f1"] for r in own}

    for ours in (init for init in inits if init.startswith("en_metaie")):
        for start in (init for init in inits if not init.startswith("en_metaie")):
            theirs_f1, ours_f1 = index(start), index(ours)
            both = theirs_f1.keys() & ours_f1.keys()
            pairs = []
            for name in sorted({name for name, _ in both}):
                seeds = [key for key in both if key[0] == name]
                pairs.append(
                    (
                        statistics.mean(theirs_f1[key] for key in seeds),
                        statistics.mean(ours_f1[key] for key in seeds),
                    )
                )
            if pairs:
                row = [
                    *(start, ours, len(pairs), f"{len(both) / len(pairs):.3g}"),
                    f"{statistics.mean(theirs for theirs, _ in pairs):.1f}",
                    f"{statistics.mean(own for _, own in pairs):.1f}",
                    sum(own > theirs for theirs, own in pairs),
                    sum(own < theirs - 2 for theirs, own in pairs),
                ]
                rows.append(row)
    return format_table(header, rows, 2) if rows else ""


def import_pyplot() -> Any:
    """Pyplot, set to write the same file for the same figures."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "metaie"
    from matplotlib import pyplot

    return pyplot


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """A bar for each set and start, with the standard deviation over the seeds."""
    pyplot = import_pyplot()
    first = [record for record in records if is_first(record)]
    names = sorted({record["set"] for record in first}, reverse=True)
    inits = list(dict.fromkeys(record["init"] for record in first))
    height = 0.8 / len(inits)
    size = (8, 1.2 + 0.17 * len(names) * max(3, len(inits)))
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    for i, init in enumerate(inits):
        places, means, spreads = [], [], []
        for row, name in enumerate(names):
            own = [r for r in first if (r["set"], r["init"]) == (name, init)]
            if own:
                mean, spread, _ = average(own)
                places.append(row + 0.4 - height * (i + 0.5))
                means.append(mean)
                spreads.append(spread)
        axes.barh(places, means, height, xerr=spreads, label=init, error_kw={"lw": 0.8})
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("F1 (%), mean and standard deviation over the seeds")
    axes.set_xlim(0, 100)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def describe_run(title: str, args: argparse.Namespace) -> str:
    """A heading, what the figures are, and how they were made."""
    number = args.limit_test or "all"
    where = f"{read_cpu()}, {torch.get_num_threads()} threads"
    versions = ", ".join(
        f"{name} {version}"
        for name, version in (
            ("Python", platform.python_version()),
            ("spaCy", spacy.__version__),
            ("torch", torch.__version__),
        )
    )
    # Where the data lie is the reader's own affair.
    command = " ".join(word.replace(str(args.data), "DIR") for word in sys.argv)
    return f"""# {title}

Exact-match micro F1 on the first {number} {args.split} sentences, mean ± standard
deviation (number of seeds). {datetime.date.today()}, {where}, {versions}.

```
python {command}
```

"""


def read_cpu() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def find_sets(args: argparse.Namespace) -> list[str]:
    """The names of the data sets. Raises ValueError for one that is not there."""
    if args.sets == ["all"]:
        return sorted(
            f"{path.parent.name}/{path.name}"
            for family in FAMILIES
            for path in args.data.glob(f"{family}/*")
        )
    for name in args.sets:
        if not (args.data / name / "train.jsonl").exists() or name.split("/")[0] not in FAMILIES:
            raise ValueError(f"There is no data set {name!r} in {str(args.data)!r}.")
    return list(args.sets)


def run_missing(args: argparse.Namespace, inits: Iterable[str]) -> list[dict[str, Any]]:
    """Run what the results lack, and write them after each run.

    Returns those of the same shots and split, whenever they were made; of the sets and starts that
    were asked for, those alone that this config and this limit give.
    """
    records = srsly.read_json(args.output) if args.output.exists() else []
    done = {make_key(record) for record in records}
    runs: list[tuple[str, str, int]] = []
    current: dict[tuple[str, str], tuple[int, str]] = {}
    for seed in args.seeds:
        for name in find_sets(args):
            n_rows = sum(1 for _ in srsly.read_jsonl(args.data / name / f"{args.split}.jsonl"))
            n_test = min(n_rows, args.limit_test or n_rows)
            for init in inits:
                start, digest = init.partition("=")[0], identify(args, name, init)
                current[name, start] = (n_test, digest)
                again = not is_tuned(start) and seed != args.seeds[0]
                key = (name, start, args.shots, seed, n_test, args.split, digest)
                if not again and key not in done:
                    runs.append((name, init, seed))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for name, init, seed in tqdm(runs, "Runs"):
        with tempfile.TemporaryDirectory() as folder:
            for record in run(args, name, init, seed, Path(folder)):
                figure = f"{record['measure']} F1 {record['f1']}"
                msg.good(f"{name}, seed {seed}, {record['init']}: {figure}")
                records.append(record)
        srsly.write_json(args.output, records)
    return [
        record
        for record in records
        if (record["shots"], record["split"]) == (args.shots, args.split)
        and current.get((record["set"], record["init"]), (record["n_test"], record["digest"]))
        == (record["n_test"], record["digest"])
    ]


def make_key(record: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a run from others."""
    names = ("set", "init", "shots", "seed", "n_test", "split", "digest")
    return tuple(record[name] for name in names)


def main() -> None:
    """Run what is missing; write the table and the chart at the end."""
    args = parse_args()
    records = run_missing(args, args.init)
    table = summarize(records)
    args.output.with_suffix(".md").write_text(
        describe_run("Few-shot adaptation", args) + table + "\n", encoding="utf8"
    )
    draw(records, args.output.with_suffix(".svg"))
    print(table)


if __name__ == "__main__":
    main()
