"""The one shape that gold, teacher's and predicted annotations share.

`doc.spans[key]` is a `SpanGroup` in which a span's `label_` is the query that
it answers. Its `attrs["queries"]` holds the labels that were asked, answered or
not: a label in it without a span is a *known absence*. Its `attrs["scores"]`
holds one `float32` a span where a model predicted them, as `spancat` does. A
`SpanGroup` carries its attrs through `DocBin`, so nothing is kept beside the doc.
"""

from collections.abc import Iterable

import numpy
from spacy.tokens import Doc, Span, SpanGroup
from thinc.types import Floats1d

SPANS_KEY = "metaie"


def clean_label(label: str) -> str:
    """Collapse a label's white space and strip its ends.

    Raises ValueError if nothing is left to see, TypeError if it is not a string.
    """
    if not isinstance(label, str):
        raise TypeError(f"A label must be a string, not {type(label).__name__}: {label!r}")
    cleaned = " ".join(label.split())
    # Zero-width and control characters are none that a tokenizer keeps.
    if not any(char.isprintable() and not char.isspace() for char in cleaned):
        raise ValueError(
            f"The label {label!r} is empty. Give a phrase that says what to look for, "
            "such as 'Person' or 'Reason for the delay'."
        )
    return cleaned


def clean_labels(labels: Iterable[str]) -> list[str]:
    """Clean every label and drop repeated ones, keeping the first of each.

    "Person" and "person" are two labels: a cased transformer may answer them
    differently, and whoever asked both expects both.
    """
    if isinstance(labels, str):
        raise TypeError(f"Labels must be a list of strings, not one string: {labels!r}")
    return list(dict.fromkeys(clean_label(label) for label in labels))


def has_queries(doc: Doc, key: str = SPANS_KEY) -> bool:
    """Whether the doc brings queries of its own (it may bring an empty list)."""
    return key in doc.spans and "queries" in doc.spans[key].attrs


def get_queries(doc: Doc, key: str = SPANS_KEY) -> list[str]:
    """The labels asked of the doc, in order; empty if none were."""
    return list(doc.spans[key].attrs["queries"]) if has_queries(doc, key) else []


def set_queries(doc: Doc, labels: Iterable[str], key: str = SPANS_KEY) -> None:
    """Set the labels to ask of the doc. Spans that answer other labels are dropped."""
    queries = clean_labels(labels)
    kept = [span for span in doc.spans.get(key, []) if span.label_ in set(queries)]
    set_answers(doc, kept, queries, key=key)


def get_answers(doc: Doc, key: str = SPANS_KEY) -> dict[str, list[Span]]:
    """The spans of every label asked, in order; an empty list is a known absence."""
    answers: dict[str, list[Span]] = {label: [] for label in get_queries(doc, key)}
    for span in doc.spans.get(key, []):
        answers.setdefault(span.label_, []).append(span)
    return answers


def get_scores(doc: Doc, key: str = SPANS_KEY) -> Floats1d | None:
    """One score in [0, 1] a span of the group, or None where no model predicted them.

    None as well where spans were added or taken away since: whose a score is, is not known then.
    """
    scores = doc.spans[key].attrs.get("scores") if key in doc.spans else None
    return scores if scores is not None and len(scores) == len(doc.spans[key]) else None


def get_tags(doc: Doc, key: str = SPANS_KEY) -> numpy.ndarray | None:
    """What a teacher thinks of every token under every query, or None if it was not asked.

    Returns probabilities of the tags B, I and O, of shape (queries, tokens, 3).
    """
    return doc.spans[key].attrs.get("tags") if key in doc.spans else None


def set_answers(
    doc: Doc,
    spans: Iterable[Span],
    queries: Iterable[str],
    scores: Iterable[float] | None = None,
    key: str = SPANS_KEY,
) -> None:
    """Replace the doc's annotation: its spans, the labels asked, the spans' scores.

    Raises ValueError if a span answers a label that was not asked, or if the
    numbers of spans and of scores differ.
    """
    spans, queries = list(spans), list(queries)
    unasked = {span.label_ for span in spans} - set(queries)
    if unasked:
        raise ValueError(f"Spans answer labels that are not among the queries: {sorted(unasked)}")
    attrs: dict[str, object] = {"queries": queries}
    if scores is not None:
        attrs["scores"] = numpy.asarray(list(scores), dtype="float32")
        if len(attrs["scores"]) != len(spans):  # type: ignore[arg-type]
            raise ValueError(f"{len(spans)} spans, but {len(attrs['scores'])} scores")  # type: ignore[arg-type]
    doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs=attrs)


def drop_overlapping(spans: Iterable[Span]) -> tuple[list[Span], list[Span]]:
    """Split into the spans a tagger can mark and those it cannot.

    Spans of *different* labels may overlap: each label is a query of its own. Of
    spans that overlap under one label the longer is kept, then the earlier.

    Returns (kept, dropped), the kept ones in the order given.
    """
    spans = list(spans)
    taken: dict[str, set[int]] = {}
    kept: set[int] = set()
    for i in sorted(
        range(len(spans)), key=lambda i: (spans[i].start - spans[i].end, spans[i].start)
    ):
        tokens = range(spans[i].start, spans[i].end)
        seen = taken.setdefault(spans[i].label_, set())
        if seen.isdisjoint(tokens):
            seen.update(tokens)
            kept.add(i)
    return (
        [span for i, span in enumerate(spans) if i in kept],
        [span for i, span in enumerate(spans) if i not in kept],
    )


Doc.set_extension("queries", getter=get_queries, setter=set_queries, force=True)
