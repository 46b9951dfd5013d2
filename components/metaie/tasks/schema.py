"""What all schemas share: a small, typed description of what a task asks.

A schema knows its first queries and, of an answer to these (an *anchor*: the head of a
relation, an event's trigger, a predicate, an aspect), the second ones. It is used in both
directions: `ask` and `read_gold` make training data, `ask` and `build` make predictions.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from spacy.tokens import Doc, Span

from ..decoding import choose_ents
from ..spans import SPANS_KEY, clean_label
from .structures import Structure

FIELD = re.compile(r"\{([^{}]*)\}")
# Of an anchor that is longer, the query names the beginning: taggers bound their labels.
MAX_ANCHOR_CHARS = 100


class Found(NamedTuple):
    """An answer to a first query; the span's label says to which."""

    span: Span
    score: float = 1.0


class Part(NamedTuple):
    """An answer to a second query: what `name` (a relation, a role, a polarity) of `anchor` is."""

    anchor: Found
    name: str
    span: Span
    score: float = 1.0


def check_distinct(values: Sequence[str]) -> Sequence[str]:
    """Raise ValueError for an empty list, or a value that is there twice."""
    if not values:
        raise ValueError("the list is empty: name at least one")
    return check_repeated(values)


def check_repeated(values: Sequence[str]) -> Sequence[str]:
    """Raise ValueError for a value that is there twice."""
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"named more than once: {', '.join(map(repr, repeated))}")
    return values


def parse_label(value: object) -> str:
    """The label, cleaned. Raises ValueError for what is none, as pydantic expects."""
    try:
        label = clean_label(value)  # type: ignore[arg-type]
    except TypeError as err:
        raise ValueError(str(err)) from None
    if "${" in label:
        raise ValueError(f"the label {label!r} holds '${{', which configs read as a variable")
    return label


def name_anchor(anchor: Span) -> str:
    """An anchor as its queries name it: its words, up to 100 characters."""
    return clean_label(anchor.text)[:MAX_ANCHOR_CHARS]


Label = Annotated[str, BeforeValidator(parse_label)]
Labels = Annotated[list[Label], AfterValidator(check_distinct)]


def distinct_by(attribute: str) -> AfterValidator:
    """A check that a list is not empty, and no two of its items have the attribute in common."""

    def check(items: Sequence[Any]) -> Sequence[Any]:
        check_distinct([getattr(item, attribute) for item in items])
        return items

    return AfterValidator(check)


def template(*names: str) -> AfterValidator:
    """A check that a query holds each of the names in braces, and no other."""

    def check(query: str) -> str:
        if set(FIELD.findall(query)) != set(names):
            wanted = " and ".join(f"{{{name}}}" for name in names)
            raise ValueError(f"the query {query!r} must hold {wanted}, and no other name in braces")
        return parse_label(query)

    return AfterValidator(check)


def fill_template(query: str, values: Mapping[str, str]) -> str:
    """Put the values where their names stand; what they hold is not read again."""
    return clean_label(FIELD.sub(lambda match: values[match[1]], query))


class Schema(BaseModel, ABC):
    """What a task asks; see the classes of the families.

    attr: the extension attribute of docs that holds what is found; None if spans are all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attr: ClassVar[str | None] = None
    family: str

    @abstractmethod
    def labels(self) -> list[str]:
        """The first queries, asked of every doc."""

    def ask(self, anchor: Span, found: Collection[str] | None = None) -> dict[str, str]:
        """The second queries about an anchor: {name of what is asked: query}.

        found: the labels that have an answer in the doc, where that is known: what would
            need another is not asked.
        """
        return {}

    def choose(self, found: Sequence[Found]) -> list[Found]:
        """The answers to the first queries that are believed, of all that there are."""
        return list(found)

    @abstractmethod
    def read_gold(self, doc: Doc, key: str = SPANS_KEY) -> tuple[list[Span], list[Part]]:
        """The right answers of an annotated doc to the first and the second queries.

        key: the span group of single spans; all else is read from the doc's attributes.
        """

    def names(self) -> set[str]:
        """All labels, relations, roles and polarities that the schema names."""
        return set(self.labels())

    def build(self, found: Iterable[Found], parts: Iterable[Part]) -> Sequence[Structure]:
        """Make the task's structures of answers to its first and second queries."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """The schema as JSON or a config holds it."""
        return self.model_dump(mode="json")


def choose_best(found: Sequence[Found]) -> list[Found]:
    """The answers with the best scores that do not overlap, whatever their labels."""
    scores = {(one.span.start, one.span.end, one.span.label_): one.score for one in found}
    chosen = choose_ents([one.span for one in found], [one.score for one in found])
    return [Found(span, scores[span.start, span.end, span.label_]) for span in chosen]


def select(spans: Iterable[Span], labels: Collection[str]) -> list[Span]:
    """The spans that have one of the labels, each once."""
    distinct = {(span.start, span.end, span.label_): span for span in spans}
    return [span for span in distinct.values() if span.label_ in labels]
