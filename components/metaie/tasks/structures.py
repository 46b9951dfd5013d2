"""What is found in a doc beyond single spans: `doc._.relations` and its like.

Each attribute is a list of the dataclasses here, settable like any other. They are kept
in `doc.user_data` as plain JSON with offsets in characters, so a DocBin that stores user
data, `to_bytes` and other processes carry them.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from spacy.tokens import Doc, Span

from ..rows import BadRow

Row = dict[str, Any]


@dataclass(frozen=True)
class Structure:
    """A thing found: knows the extension attribute it is kept under, and its JSON view."""

    attr: ClassVar[str]

    def to_dict(self) -> Row:
        """A JSON-serialisable view; offsets in characters, `end` exclusive."""
        return {one.name: DUMP.get(one.type, keep)(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_dict(cls, doc: Doc, row: Mapping[str, Any]) -> Self:
        """Read the view of something in `doc`. Raises ValueError if the doc has another text."""
        values = {
            one.name: LOAD[one.type](doc, row[one.name]) if one.type in LOAD else row[one.name]
            for one in fields(cls)
        }
        return cls(**values)


@dataclass(frozen=True)
class Argument:
    """A span that plays a role, and the score of that."""

    span: Span
    score: float = 1.0


Arguments = Mapping[str, list[Argument]]


@dataclass(frozen=True)
class Relation(Structure):
    """`head` stands in the relation `label` to `tail`; the spans' labels are their types."""

    attr = "relations"
    head: Span
    label: str
    tail: Span
    score: float = 1.0


@dataclass(frozen=True)
class Event(Structure):
    """An event of a type, said by `trigger`, with arguments by role; roles without are absent."""

    attr = "events"
    trigger: Span
    type: str
    arguments: Arguments = field(default_factory=dict)
    score: float = 1.0


@dataclass(frozen=True)
class Frame(Structure):
    """A predicate with its arguments by semantic role; roles without are absent."""

    attr = "frames"
    predicate: Span
    arguments: Arguments = field(default_factory=dict)
    score: float = 1.0


@dataclass(frozen=True)
class Aspect(Structure):
    """What a polarity, such as "positive", is expressed of."""

    attr = "aspects"
    span: Span
    polarity: str
    score: float = 1.0


@dataclass(frozen=True)
class Triplet(Structure):
    """An aspect, the polarity of what is said of it, and the words that say so."""

    attr = "triplets"
    aspect: Span
    polarity: str
    opinion: Span
    score: float = 1.0


STRUCTURES: dict[str, type[Structure]] = {
    structure.attr: structure for structure in (Relation, Event, Frame, Aspect, Triplet)
}


def dump_span(span: Span) -> Row:
    """The span's text, its offsets in characters, and its label."""
    return {
        "text": span.text,
        "start": span.start_char,
        "end": span.end_char,
        "label": span.label_,
    }


def load_span(doc: Doc, row: Mapping[str, Any]) -> Span:
    """Read what `dump_span` wrote. Raises ValueError if the doc has another text there."""
    span = doc.char_span(row["start"], row["end"], label=row["label"], alignment_mode="expand")
    if span is None or doc.text[row["start"] : row["end"]] != row["text"]:
        raise ValueError(
            f"The span {row['text']!r} ({row['start']} to {row['end']}) is not in the doc's "
            f"{len(doc.text)} characters."
        )
    return span


def dump_arguments(arguments: Arguments) -> Row:
    """The arguments by role; each is a span with its score."""
    return {
        role: [{**dump_span(found.span), "score": found.score} for found in fillers]
        for role, fillers in arguments.items()
    }


def load_arguments(doc: Doc, rows: Mapping[str, list[Row]]) -> dict[str, list[Argument]]:
    """Read what `dump_arguments` wrote."""
    return {
        role: [Argument(load_span(doc, row), row["score"]) for row in fillers]
        for role, fillers in rows.items()
    }


def keep(value: Any) -> Any:
    """What JSON takes as it is."""
    return value


# How fields are written and read, by their type.
DUMP: dict[Any, Callable[[Any], Any]] = {Span: dump_span, Arguments: dump_arguments}
LOAD: dict[Any, Callable[[Doc, Any], Any]] = {Span: load_span, Arguments: load_arguments}


def get_rows(doc: Doc, attr: str) -> list[Row] | None:
    """The JSON views of the doc's structures, or None where nobody has looked for any."""
    rows = doc.user_data.get(f"metaie.{attr}")
    return None if rows is None else to_lists(rows)


def to_lists(value: Any) -> Any:
    """A copy of JSON with lists, which are tuples when they come from a DocBin."""
    if isinstance(value, dict):
        return {key: to_lists(inner) for key, inner in value.items()}
    return [to_lists(inner) for inner in value] if isinstance(value, list | tuple) else value


def _make_getter(structure: type[Structure]) -> Callable[[Doc], list[Structure]]:
    def get(doc: Doc) -> list[Structure]:
        rows = get_rows(doc, structure.attr) or ()
        # Whatever wrote the user data, a DocBin from anywhere may hold it.
        try:
            return [structure.from_dict(doc, row) for row in rows]
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise BadRow(
                f"damaged {structure.attr}",
                f"the {structure.attr} in the user data of the doc {doc.text[:40]!r} are damaged, "
                f"or of another text ({type(err).__name__}: {err}).",
            ) from err

    return get


def _make_setter(structure: type[Structure]) -> Callable[[Doc, Iterable[Structure]], None]:
    def put(doc: Doc, found: Iterable[Structure]) -> None:
        doc.user_data[f"metaie.{structure.attr}"] = [one.to_dict() for one in found]

    return put


for _attr, _structure in STRUCTURES.items():
    if Doc.has_extension(_attr):
        warnings.warn(
            f"doc._.{_attr} was set by something else: from here on it is metaie's.", stacklevel=2
        )
    Doc.set_extension(
        _attr, getter=_make_getter(_structure), setter=_make_setter(_structure), force=True
    )
