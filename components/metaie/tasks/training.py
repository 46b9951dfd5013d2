"""Training data for a schema: an annotated doc ──▶ the queries that it answers."""

from collections.abc import Iterator
from typing import Any

from spacy.tokens import Doc, Span

from ..rows import BadRow
from ..spans import SPANS_KEY, get_queries, set_answers
from .aspects import AspectSchema
from .mentions import make_questions
from .schema import Found, Schema
from .structures import get_rows

# The attribute of a span group that lists the second queries among its queries.
SECOND = "second_queries"


def make_answers(schema: Schema, doc: Doc, key: str = SPANS_KEY) -> dict[str, list[Span]]:
    """The first queries and, about every anchor, the second ones, with their right answers.

    key: the span group of single spans, such as entities.
    """
    spans, parts = schema.read_gold(doc, key)
    answers: dict[str, dict[tuple[int, int], Span]] = {label: {} for label in schema.labels()}
    for span in spans:
        answers[span.label_][span.start, span.end] = span
    for question in make_questions(schema, [Found(span) for span in spans]):
        own = answers.setdefault(question.query, {})
        asked = {
            (anchor.span.start, anchor.span.end, anchor.span.label_, name)
            for anchor, name in question.about
        }
        for part in parts:
            anchor = part.anchor.span
            if (anchor.start, anchor.end, anchor.label_, part.name) in asked:
                start, end = part.span.start, part.span.end
                own[start, end] = Span(doc, start, end, label=question.query)
    return {label: list(by_place.values()) for label, by_place in answers.items()}


def ask_schema(schema: Schema, doc: Doc, key: str = SPANS_KEY) -> None:
    """Write `make_answers` to the doc's span group, for the `metaie` component to learn from.

    Raises BadRow if nobody has annotated the doc for the schema's family.
    """
    attr = schema.attr
    if isinstance(schema, AspectSchema):
        # Their gold are spans; set as aspects as well, they are there to be scored.
        doc._.aspects = schema.build([Found(span) for span in schema.read_gold(doc, key)[0]], [])
    elif attr is not None and get_rows(doc, attr) is None:
        raise BadRow(
            f"no {attr}",
            f"the schema is of {schema.family}, but nothing says which {attr} there are. Write "
            f'"{attr}": [] where there are none.',
        )
    answers = make_answers(schema, doc, key)
    set_answers(doc, [span for own in answers.values() for span in own], answers, key=key)
    first = schema.labels()
    doc.spans[key].attrs[SECOND] = [label for label in answers if label not in first]


def get_second(doc: Doc, key: str = SPANS_KEY) -> list[str]:
    """Those of the doc's queries that a schema asked about answers to others."""
    return list(doc.spans[key].attrs.get(SECOND, ())) if key in doc.spans else []


def drop_second(doc: Doc, key: str = SPANS_KEY) -> None:
    """Take back a schema's second queries: they follow from the structures that the doc holds."""
    second = set(get_second(doc, key))
    if second:
        spans = [span for span in doc.spans[key] if span.label_ not in second]
        queries = [label for label in get_queries(doc, key) if label not in second]
        set_answers(doc, spans, queries, key=key)


def list_unknown(schema: Schema, doc: Doc, key: str = SPANS_KEY) -> Iterator[str]:
    """The labels, roles and polarities in an annotated doc that the schema does not name."""
    names: list[str] = []
    if schema.attr in (None, "relations", "aspects"):
        names += [span.label_ for span in doc.spans.get(key, [])]
    found = getattr(doc._, schema.attr) if schema.attr else []
    rows: list[dict[str, Any]] = [one.to_dict() for one in found]
    for row in rows:
        names += [row[field] for field in ("label", "type", "polarity") if field in row]
        for role, arguments in row.get("arguments", {}).items():
            names += [role] * len(arguments)
    known = schema.names()
    yield from (name for name in names if name not in known)
