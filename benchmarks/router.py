"""What the label router keeps and saves: the cross-encoder, asked a hundred labels of a text.

    python benchmarks/router.py --model training/distill/model-best --fast training/fast/model-best

Each passage is asked its own labels and as many of the train split's most frequent ones as make
up the number. Without a router, with its `top_k`, and with a hierarchy: the time, F1 of
the passage's own labels, and the share of the spans found without a router that are still
found. For comparison the fast tagger alone.
"""

import argparse
import datetime
import time
from pathlib import Path
from typing import Any

import spacy
import srsly
import torch
from metaie.evaluate import count_doc, load_examples
from metaie.loading import get_metaie
from metaie.pipe import MetaIE
from metaie.routing import create_label_router
from metaie.scoring import Scores
from metaie.spans import get_queries
from spacy.tokens import Doc
from speed import find_labels, read_cpu
from wasabi import msg

ROOT = Path(__file__).parents[1]
HIERARCHY = {
    "Person": [
        *("Politician", "Character", "Author", "Player", "Patient", "Actor", "Scientist", "Judge"),
        *("Director", "Coach", "Artist"),
    ],
    "Organization": [
        *("Company", "University", "Team", "Publisher", "Political party", "Airline", "Band"),
        *("Court", "Brand"),
    ],
    "Location": [
        *("City", "Country", "Place", "River", "Town", "Venue", "Street", "State", "Region"),
        *("Destination", "Restaurant"),
    ],
    "Date": ["Year", "Day", "Month", "Time", "When"],
}


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a pipeline with the cross-encoder")
    parser.add_argument("--fast", required=True, help="a pipeline with the tagger that filters")
    parser.add_argument("--data", type=Path, default=ROOT / "corpus/test.spacy")
    parser.add_argument("--train", type=Path, default=ROOT / "corpus/train.spacy")
    parser.add_argument("--labels", type=int, default=100, help="asked of each passage")
    parser.add_argument("--limit", type=int, default=60, help="passages")
    parser.add_argument("--top-k", nargs="+", type=int, default=[5, 10, 20, 40])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/router.json")
    return parser.parse_args()


def measure(pipe: MetaIE, docs: list[Doc], references: list[Doc]) -> dict[str, Any]:
    """Ask the docs' queries; returns seconds, scores on the references' labels, all spans."""
    start = time.perf_counter()
    predictions = pipe.predict(docs)
    seconds = time.perf_counter() - start
    scores = Scores()
    found = set()
    for i, (reference, doc, prediction) in enumerate(
        zip(references, docs, predictions, strict=True)
    ):
        count_doc([scores], reference, doc, prediction, pipe.key)
        found.update((i, *answer[:3]) for answer in prediction.answers)
    return {"seconds": seconds, **scores.to_dict(), "found": found}


def main() -> None:
    """Measure every router once; write results and a table."""
    args = parse_args()
    nlp, examples = load_examples(args.model, args.data, limit=args.limit)
    pipe = get_metaie(nlp)
    nlp.add_pipe("metaie", name="fast", source=spacy.load(args.fast))
    fast = nlp.get_pipe("fast")
    nlp.disable_pipe("fast")
    assert isinstance(fast, MetaIE)
    frequent = find_labels(args.train, args.labels)
    for name, children in HIERARCHY.items():
        assert name in frequent, name
        assert set(children) & set(frequent), children
    docs, references = [], []
    for eg in examples:
        doc = nlp.make_doc(eg.reference.text)
        own = get_queries(eg.reference, pipe.key)
        doc._.queries = list(dict.fromkeys([*own, *frequent]))[: args.labels]
        docs.append(doc)
        references.append(eg.reference)
    measure(pipe, docs[:2], references[:2])
    routers: dict[str, dict[str, Any] | None] = {
        "none": None,
        **{f"top_k = {k}": {"top_k": k, "component": "fast"} for k in args.top_k},
        "hierarchy": {"hierarchy": HIERARCHY},
    }
    records: list[dict[str, Any]] = []
    everything: set[Any] = set()
    for name, settings in routers.items():
        pipe.router = None if settings is None else create_label_router(**settings)
        if pipe.router is not None:
            pipe.router.bind(nlp)
        records.append(summarize(name, measure(pipe, docs, references), everything))
        msg.good(f"{name}: {records[-1]}")
    records.append(summarize("fast alone", measure(fast, docs, references), everything))
    for record in records:
        record["speed_up"] = round(records[0]["seconds"] / record["seconds"], 2)
    srsly.write_json(args.output, records)
    args.output.with_suffix(".md").write_text(make_table(args, records), encoding="utf8")
    msg.good(f"Wrote {args.output}, and a table beside it")


def summarize(name: str, figures: dict[str, Any], everything: set[Any]) -> dict[str, Any]:
    """The record of a router; the first one's spans are what the others' are held against."""
    found = figures["found"]
    if not everything:
        everything.update(found)
    return {
        "router": name,
        "seconds": round(figures["seconds"], 1),
        **{key: round(100 * figures[key], 1) for key in ("f", "p", "r", "false_answers")},
        "kept": round(100 * len(found & everything) / max(len(everything), 1), 1),
    }


def make_table(args: argparse.Namespace, records: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# The label router",
        "",
        f"{args.limit} passages of the test split, {args.labels} labels each. "
        f"{datetime.date.today()}, {read_cpu()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}.",
        "",
        "```",
        f"python benchmarks/router.py --model {args.model} --fast {args.fast}",
        "```",
        "",
        "| router | seconds | faster | F1 | P | R | false answers | spans kept |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in records:
        cells = [r["router"], r["seconds"], f"{r['speed_up']} x", r["f"], r["p"], r["r"]]
        cells += [r["false_answers"], r["kept"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
