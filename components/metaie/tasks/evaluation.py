"""Evaluation of a pipeline by a schema, on docs that are annotated for it."""

from collections.abc import Iterable
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from tqdm import tqdm
from wasabi import table

from ..docbin import read_docbin
from ..loading import get_metaie
from ..spans import SPANS_KEY, set_queries
from .schema import Schema
from .scoring import score_structures
from .structure import add_structure

ANCHORS_KEY = "metaie.anchors"
# What is scored of anchors alone: nothing where they are given.
ANCHORS = ("triggers", "predicates")


def evaluate_schema(
    nlp: Language,
    references: Iterable[Doc],
    schema: Schema,
    *,
    given: bool = False,
    progress: bool = False,
) -> dict[str, float]:
    """Find what the schema describes in texts, and score it against their annotation.

    references: annotated docs, as `metaie convert --schema` makes them; the pipeline sees their
        words only.
    given: the heads, triggers, predicates or aspects are given, as measures of semantic roles
        and of relation classification have it; they are not counted as found.

    Returns shares in [0, 1]; see `score_structures`. Raises ValueError without annotated docs.
    """
    references = list(references)
    metaie = get_metaie(nlp)
    key, labels = metaie.key, metaie.labels
    pipe = add_structure(nlp, schema, anchors_key=ANCHORS_KEY if given else None)
    bare = [make_bare(doc, schema, key, given) for doc in references]
    try:
        docs = list(nlp.pipe(tqdm(bare, "Evaluate", unit="doc", disable=not progress)))
    finally:
        nlp.remove_pipe(pipe.name)
        metaie.labels = labels
    examples = [Example(doc, reference) for doc, reference in zip(docs, references, strict=True)]
    scores = {
        name: score
        for name, score in score_structures(examples, schema=schema, spans_key=key).items()
        if not (given and name.rpartition("_")[0] in ANCHORS)
    }
    if not scores:
        raise ValueError(
            f"No doc is annotated for a schema of {schema.family}. Make such docs with "
            "`python -m metaie convert INPUT OUTPUT --schema FILE`."
        )
    return scores


def make_bare(reference: Doc, schema: Schema, key: str = SPANS_KEY, given: bool = False) -> Doc:
    """The doc without its annotation, but with the anchors where they are given."""
    words = [token.text for token in reference]
    doc = Doc(reference.vocab, words=words, spaces=[bool(token.whitespace_) for token in reference])
    set_queries(doc, [] if given else schema.labels(), key)
    if given:
        anchors = [
            Span(doc, span.start, span.end, label=span.label_)
            for span in schema.read_gold(reference, key)[0]
        ]
        doc.spans[ANCHORS_KEY] = SpanGroup(doc, name=ANCHORS_KEY, spans=anchors)
    return doc


def read_references(nlp: Language, data: Path, limit: int = 0) -> list[Doc]:
    """The annotated docs of a .spacy file or a folder of them; 0 is all."""
    docs = []
    for doc in read_docbin(data, nlp.vocab, get_metaie(nlp).key):
        docs.append(doc)
        if len(docs) == limit:
            break
    return docs


def format_scores(scores: dict[str, float]) -> str:
    """A table for the terminal, a row a measure."""
    names = list(dict.fromkeys(name.rpartition("_")[0] for name in scores))
    rows = [
        [name, *(f"{100 * scores[f'{name}_{letter}']:.1f}" for letter in "fpr")] for name in names
    ]
    return table(rows, header=("", "F1", "P", "R"), divider=True, aligns=("l", "r", "r", "r"))
