"""Few-shot adaptation: F1 after training on a handful of sentences, from several starts.

    python benchmarks/fewshot.py --data DIR --init base en_metaie=training/distill/model-best \
        --sets ner/conll2003 ner/mit-restaurant --shots 5-per-label --seeds 0 1 2 --limit-test 500

DIR holds `<task>/<dataset>/{train,test}.jsonl` and, beside them,
`fewshot/<shots>.seed<n>.jsonl`, one `{"tokens", "spans": [{"start", "end", "label"}]}` a line.
Every run trains with configs/fewshot.cfg as it is; the measure is exact-match micro F1 of spans on
the first test sentences, at the config's threshold. Of relations the heads are given: what is found
are the tails of each head, asked as `<head> <relation>`, and a relation's heads are of the types
that they have in train. Runs that are in the results are not repeated.
"""

import argparse
import datetime
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

import spacy
import srsly
import torch
from metaie.convert import convert
from metaie.evaluate import evaluate, load_examples
from spacy.cli.train import train
from wasabi import msg

ROOT = Path(__file__).parents[1]
TAGGER = "components.metaie.model"


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument(
        "--init",
        nargs="+",
        required=True,
        help="starts: `base`, the bare transformer, or NAME=FOLDER, a pipeline tuned as NAME with"
        " its architecture; `zero_shot=PIPELINE` is not tuned",
    )
    parser.add_argument("--sets", nargs="+", required=True, help="such as ner/conll2003")
    parser.add_argument("--shots", default="5-per-label")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--limit-test", type=int, default=0, help="test sentences; 0 is all")
    parser.add_argument("--base-model", default="assets/base")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/fewshot.cfg")
    parser.add_argument("--split", default="test", help="dev, to choose settings by")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/fewshot.json")
    parser.add_argument("--device", type=int, default=-1, help="the GPU; -1 is the CPU")
    return parser.parse_args()


def read_labels(path: Path) -> list[str]:
    """All labels of a data set, in order of appearance."""
    return list(
        dict.fromkeys(span["label"] for row in srsly.read_jsonl(path) for span in row["spans"])
    )


def read_head_types(path: Path) -> dict[str, set[str]]:
    """The labels that the heads of each relation have."""
    types: dict[str, set[str]] = {}
    for row in srsly.read_jsonl(path):
        for relation in row["relations"]:
            head = row["spans"][relation["head"]]
            types.setdefault(relation["label"], set()).add(head["label"])
    return types


def ask_for_tails(source: Path, target: Path, head_types: dict[str, set[str]]) -> Path:
    """Write rows whose queries are `<head> <relation>`, and whose spans are the tails."""
    rows = []
    for row in srsly.read_jsonl(source):
        heads = [" ".join(row["tokens"][span["start"] : span["end"]]) for span in row["spans"]]
        tails = {
            (f"{heads[relation['head']]} {relation['label']}", relation["tail"])
            for relation in row["relations"]
        }
        queries = [
            f"{head} {label}"
            for head, span in zip(heads, row["spans"], strict=True)
            for label, types in head_types.items()
            if span["label"] in types
        ]
        spans = [{**row["spans"][tail], "label": query} for query, tail in sorted(tails)]
        rows.append({"tokens": row["tokens"], "spans": spans, "queries": queries})
    srsly.write_jsonl(target, rows)
    return target


def run(args: argparse.Namespace, name: str, init: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train and evaluate once; returns the record for the results."""
    label, _, pipeline = init.partition("=")
    source = args.data / name
    labels = read_labels(source / "train.jsonl")
    shots = source / "fewshot" / f"{args.shots}.seed{seed}.jsonl"
    test = source / f"{args.split}.jsonl"
    family = name.split("/")[0]
    if family == "re":
        labels, head_types = [], read_head_types(source / "train.jsonl")
        shots = ask_for_tails(shots, folder / "train.jsonl", head_types)
        test = ask_for_tails(test, folder / "test.jsonl", head_types)
    convert(shots, folder / "train.spacy", labels=labels)
    convert(test, folder / "test.spacy", labels=labels)
    model = pipeline
    if label != "zero_shot":
        overrides = {
            "paths.train": str(folder / "train.spacy"),
            "paths.dev": str(folder / "train.spacy"),
            "paths.init_model": pipeline or None,
            "paths.base_model": args.base_model,
            "system.seed": seed,
            "training.logger.progress_bar": None,
        }
        if pipeline:
            tagger = spacy.util.load_config(Path(pipeline) / "config.cfg")["components"]["metaie"]
            overrides[f"{TAGGER}.@architectures"] = tagger["model"]["@architectures"]
        train(args.config, folder / "out", use_gpu=args.device, overrides=overrides)
        model = str(folder / "out" / "model-last")
    nlp, examples = load_examples(
        model, folder / "test.spacy", limit=args.limit_test, gpu_id=args.device
    )
    results = evaluate(nlp, examples, progress=True)
    return {
        "set": name,
        "family": family,
        "init": label,
        "shots": args.shots,
        "seed": seed,
        "measure": "relation micro F1, gold heads" if family == "re" else "span micro F1",
        "f1": round(100 * results["f"], 2),
        "p": round(100 * results["p"], 2),
        "r": round(100 * results["r"], 2),
        "n_test": len(examples),
        "split": args.split,
    }


def summarize(records: list[dict[str, Any]]) -> str:
    """A Markdown table: mean and standard deviation over the seeds."""
    inits = list(dict.fromkeys(record["init"] for record in records))
    lines = ["| set | " + " | ".join(inits) + " |", "| --- |" + " ---: |" * len(inits)]
    for name in dict.fromkeys(record["set"] for record in records):
        cells = []
        for init in inits:
            f1 = [r["f1"] for r in records if r["set"] == name and r["init"] == init]
            spread = f" ± {statistics.stdev(f1):.1f}" if len(f1) > 1 else ""
            cells.append(f"{statistics.mean(f1):.1f}{spread} ({len(f1)})" if f1 else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(args: argparse.Namespace) -> str:
    """What the table shows, and how it was made."""
    inits = " ".join(args.init)
    seeds = " ".join(map(str, args.seeds))
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
    return f"""# Few-shot adaptation

Exact-match micro F1 of spans on the first {number} {args.split} sentences, mean ± standard
deviation (number of seeds). {datetime.date.today()}, {where}, {versions}.

```
python benchmarks/fewshot.py --data DIR --init {inits} \\
    --sets {" ".join(args.sets)} --shots {args.shots} --seeds {seeds} --limit-test {args.limit_test}
```

"""


def read_cpu() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Run what is missing; write the results after each run, the table at the end."""
    args = parse_args()
    records = srsly.read_json(args.output) if args.output.exists() else []
    done = {(r["set"], r["init"], r["shots"], r["seed"], r["n_test"], r["split"]) for r in records}
    for name in args.sets:
        n_rows = sum(1 for _ in srsly.read_jsonl(args.data / name / f"{args.split}.jsonl"))
        n_test = min(n_rows, args.limit_test or n_rows)
        for seed in args.seeds:
            for init in args.init:
                key = (name, init.partition("=")[0], args.shots, seed, n_test, args.split)
                if key in done:
                    msg.info(f"Done already: {key}")
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    record = run(args, name, init, seed, Path(folder))
                msg.good(f"{name}, seed {seed}, {record['init']}: F1 {record['f1']}")
                records.append(record)
                args.output.parent.mkdir(parents=True, exist_ok=True)
                srsly.write_json(args.output, records)
    args.output.with_suffix(".md").write_text(
        describe(args) + summarize(records) + "\n", encoding="utf8"
    )
    print(summarize(records))


if __name__ == "__main__":
    main()
