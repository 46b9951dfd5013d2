"""Distil other starting points for few-shot adaptation, to compare `en_metaie` with.

    python benchmarks/starts.py single_task
    python benchmarks/starts.py share --share 0.25 --base-model assets/base
    python benchmarks/starts.py multi_task --data DIR --without ner re

single_task: the corpus, restricted to labels that are plain entity types.
share: a random part of the corpus' passages; 1.0 is all of it.
multi_task: people's annotation instead of the teacher's: the first thousand sentences of the train
    sets of all task families but those under `--without`; see benchmarks/fewshot.py for DIR.

Each is trained with configs/distill.cfg and a file of overrides, so with the same number of steps,
into `training/starts/<name>`, unless it is there already, with the same settings. By default that
is the quick size.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import spacy
import srsly
from fewshot import FAMILIES, make_digest, make_schema
from metaie.convert import read_annotated
from metaie.docbin import read_docbin, write_docbin
from metaie.spans import get_queries, set_queries
from metaie.tasks.training import ask_schema
from metaie.train import read_overrides
from spacy.cli.train import train
from spacy.lang.en.stop_words import STOP_WORDS
from spacy.tokens import Doc
from wasabi import msg

ROOT = Path(__file__).parents[1]
# What a label of one of the other families has in it.
OTHER_FAMILIES = {
    *("aspect", "opinion", "predicate", "agent", "patient", "modal"),
    *("positive", "negative", "neutral"),
}
MAX_WORDS = 3
SENTENCES = 1000


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("start", choices=["single_task", "share", "multi_task"])
    parser.add_argument("--data", type=Path, help="the folder of the data sets, for multi_task")
    parser.add_argument(
        "--without", nargs="+", default=[], choices=FAMILIES, help="families left out, likewise"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the passages, from 0 to 1")
    parser.add_argument("--base-model", default="assets/base")
    parser.add_argument("--name", help="by default START, with its share or what it is without")
    parser.add_argument("--device", type=int, default=-1, help="the GPU; -1 is the CPU")
    add_distillation(parser)
    return parser.parse_args()


def add_distillation(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of scripts that distil."""
    parser.add_argument("--corpus", type=Path, default=ROOT / "corpus")
    parser.add_argument("--distil-config", type=Path, default=ROOT / "configs/distill.cfg")
    parser.add_argument(
        "--overrides",
        type=Path,
        default=ROOT / "configs/size/quick.json",
        help="settings of that config; configs/size/full.json for as many steps as en_metaie",
    )
    parser.add_argument("--starts", type=Path, default=ROOT / "training/starts")


def keep_entity_types(docs: Iterable[Doc]) -> list[Doc]:
    """Keep the queries that ask for a plain entity type, and the docs that have one.

    Such a label is at most three words long, has no function word ("Who sold it", "mother of
    Ishmael") and none of another family's, and is asked of more than one passage: what is
    particular to a passage is rather a relation to something in it.
    """
    docs = list(docs)
    counts = Counter(label for doc in docs for label in get_queries(doc))
    barred = (STOP_WORDS - {"name"}) | OTHER_FAMILIES
    kept = []
    for doc in docs:
        labels = [
            label
            for label in get_queries(doc)
            if counts[label] > 1
            and len(label.split()) <= MAX_WORDS
            and barred.isdisjoint(label.lower().split())
        ]
        if labels:
            set_queries(doc, labels)
            kept.append(doc)
    return kept


def draw(docs: Iterable[Doc], share: float) -> list[Doc]:
    """A random part of the docs; a larger share holds all that a smaller one does."""
    docs = list(docs)
    random.Random(0).shuffle(docs)
    return docs[: round(share * len(docs))]


def gather(data: Path, without: Iterable[str]) -> Iterator[Doc]:
    """What people annotated, asked as the task families ask.

    Sets share texts: what any set adapts to or is measured on is left out.
    """
    held_out = {
        " ".join(row["tokens"])
        for pattern in ("*/*/test.jsonl", "*/*/dev.jsonl", "*/*/fewshot/*.jsonl")
        for path in data.glob(pattern)
        for row in srsly.read_jsonl(path)
    }
    names = {f"{path.parent.name}/{path.name}" for path in data.glob("*/*") if path.is_dir()}
    for name in sorted(names):
        if name.split("/")[0] not in without:
            schema = make_schema(data / name)
            docs = read_annotated(data / name / "train.jsonl")
            for doc in islice((doc for doc in docs if doc.text not in held_out), SENTENCES):
                ask_schema(schema, doc)
                yield doc


def read_corpus(corpus: Path) -> Iterator[Doc]:
    """The passages to distil from."""
    return read_docbin(corpus / "train.spacy", spacy.blank("en").vocab)


def make_docs(args: argparse.Namespace) -> list[Doc]:
    """The docs of a start."""
    if args.start == "multi_task":
        return list(gather(args.data, args.without))
    docs = read_corpus(args.corpus)
    return keep_entity_types(docs) if args.start == "single_task" else draw(docs, args.share)


def name_start(args: argparse.Namespace) -> str:
    """What tells a start from others of its kind."""
    if args.start == "share":
        return f"share_{args.share:g}"
    return "_".join([args.start, *(["without", *args.without] if args.without else [])])


def distil(
    docs: Iterable[Doc], folder: Path, args: argparse.Namespace, base_model: str = "assets/base"
) -> Path:
    """Train on the docs, unless that was done; returns the pipeline's folder.

    args: have the corpus (for its dev split), the config, its overrides, and the device.

    Raises ValueError if the folder holds what was trained with other settings, or on other docs.
    """
    pipeline, record = folder / "model-best", folder / "settings.json"
    docs = list(docs)
    n_queries = sum(len(get_queries(doc)) for doc in docs)
    settings = {
        "config": make_digest(args.distil_config),
        "overrides": read_overrides(args.overrides),
        "base_model": make_digest(Path(base_model)),
        "texts": len(docs),
        "queries": n_queries,
    }
    if pipeline.exists():
        if not record.exists() or srsly.read_json(record) != settings:
            raise ValueError(
                f"{str(pipeline)!r} was trained with other settings, or on other texts: delete "
                f"it, or choose another folder with `--starts`. Wanted: {settings}."
            )
        msg.info(f"Done already: {pipeline}")
        return pipeline
    msg.info(f"{folder.name}: {len(docs):,} texts, {n_queries:,} queries")
    write_docbin(folder / "train.spacy", docs)
    overrides = {
        **read_overrides(args.overrides),
        "paths.train": str(folder / "train.spacy"),
        "paths.dev": str(args.corpus / "dev.spacy"),
        "paths.base_model": base_model,
    }
    train(args.distil_config, folder, use_gpu=args.device, overrides=overrides)
    srsly.write_json(record, settings)
    return pipeline


def main() -> None:
    """Make the docs, and train on them."""
    args = parse_args()
    distil(make_docs(args), args.starts / (args.name or name_start(args)), args, args.base_model)


if __name__ == "__main__":
    main()
