"""Structures in rows of JSONL, read and written: they point to the row's spans by number.

    {"tokens": ["Ada", "works", "for", "IBM", "."],
     "spans": [{"start": 0, "end": 1, "label": "person"},
               {"start": 3, "end": 4, "label": "company"}],
     "relations": [{"head": 0, "tail": 1, "label": "works for"}]}

Events are `{"trigger", "label", "arguments": [{"span", "role"}]}`, frames `{"predicate",
"arguments"}`, triplets `{"aspect", "opinion", "polarity"}`. Aspects are spans of their own,
labelled as they are asked ("positive aspect").
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spacy.tokens import Doc, Span

from ..rows import BadRow, check_label, check_list, shorten
from .structures import (
    Argument,
    Arguments,
    Event,
    Frame,
    Relation,
    Structure,
    Triplet,
    get_rows,
)

# Takes a span, gives its number in the row.
Point = Callable[[Span], int]


def read_structures(row: Mapping[str, Any], spans: Sequence[Span], doc: Doc) -> None:
    """Set what the row holds on the doc; what it does not hold is not set. Raises BadRow.

    spans: the row's spans, in its order.
    """
    for attr, read in READERS.items():
        if attr in row:
            found = [
                read(check_object(value, attr), spans) for value in check_list(row[attr], attr)
            ]
            setattr(doc._, attr, found)


def check_object(value: object, name: str) -> dict[str, Any]:
    """Raise BadRow unless the value is a JSON object."""
    if not isinstance(value, dict):
        raise BadRow(
            f"{name} holds no objects", f"{name!r} holds {shorten(value)}, not JSON objects."
        )
    return value


def get_span(value: Mapping[str, Any], key: str, spans: Sequence[Span]) -> Span:
    """The span whose number stands under the key. Raises BadRow."""
    number = value.get(key)
    # JSON's true and false are ints to Python.
    if type(number) is not int or not 0 <= number < len(spans):
        raise BadRow(
            f"{key} is no span",
            f"{key!r} of {shorten(value)} must be the number of one of the row's {len(spans)} "
            f"spans, from 0, not {shorten(number)}.",
        )
    return spans[number]


def get_label(value: Mapping[str, Any], key: str) -> str:
    """The label under the key, cleaned. Raises BadRow."""
    if key not in value:
        raise BadRow(f"no {key}", f"{key!r} is missing in {shorten(value)}.")
    return check_label(value[key])


def get_arguments(value: Mapping[str, Any], spans: Sequence[Span]) -> dict[str, list[Argument]]:
    """The arguments by role. Raises BadRow."""
    arguments: dict[str, list[Argument]] = {}
    for argument in check_list(value.get("arguments", []), "arguments"):
        argument = check_object(argument, "arguments")
        filler = Argument(get_span(argument, "span", spans))
        arguments.setdefault(get_label(argument, "role"), []).append(filler)
    return arguments


def read_relation(value: Mapping[str, Any], spans: Sequence[Span]) -> Relation:
    """Read a relation. Raises BadRow."""
    head, tail = get_span(value, "head", spans), get_span(value, "tail", spans)
    return Relation(head, get_label(value, "label"), tail)


def read_event(value: Mapping[str, Any], spans: Sequence[Span]) -> Event:
    """Read an event; its type is its label, and the trigger's. Raises BadRow."""
    trigger, label = get_span(value, "trigger", spans), get_label(value, "label")
    trigger = Span(trigger.doc, trigger.start, trigger.end, label)
    return Event(trigger, label, get_arguments(value, spans))


def read_frame(value: Mapping[str, Any], spans: Sequence[Span]) -> Frame:
    """Read a frame. Raises BadRow."""
    return Frame(get_span(value, "predicate", spans), get_arguments(value, spans))


def read_triplet(value: Mapping[str, Any], spans: Sequence[Span]) -> Triplet:
    """Read a triplet. Raises BadRow."""
    aspect, opinion = get_span(value, "aspect", spans), get_span(value, "opinion", spans)
    return Triplet(aspect, get_label(value, "polarity"), opinion)


def write_structures(doc: Doc, spans: list[Span]) -> dict[str, list[dict[str, Any]]]:
    """What `read_structures` reads, of all structures that the doc has.

    spans: the row's spans; what structures need is added.
    """
    numbers: dict[tuple[int, int, str], int] = {}
    places: dict[tuple[int, int], int] = {}

    def add(span: Span, number: int) -> int:
        numbers.setdefault((span.start, span.end, span.label_), number)
        return places.setdefault((span.start, span.end), number)

    def point(span: Span) -> int:
        """The number of the span, or of another one in its place."""
        at = (span.start, span.end)
        number = numbers.get((*at, span.label_), places.get(at))
        if number is None:
            spans.append(span)
            number = add(span, len(spans) - 1)
        return number

    for i, span in enumerate(spans):
        add(span, i)
    return {
        attr: [write(one, point) for one in getattr(doc._, attr)]
        for attr, write in WRITERS.items()
        if get_rows(doc, attr) is not None
    }


def write_arguments(arguments: Arguments, point: Point) -> list[dict[str, Any]]:
    """The arguments, one after the other."""
    return [
        {"span": point(argument.span), "role": role}
        for role, own in arguments.items()
        for argument in own
    ]


def write_relation(one: Any, point: Point) -> dict[str, Any]:
    """The row of a relation."""
    return {"head": point(one.head), "tail": point(one.tail), "label": one.label}


def write_event(one: Any, point: Point) -> dict[str, Any]:
    """The row of an event."""
    arguments = write_arguments(one.arguments, point)
    return {"trigger": point(one.trigger), "label": one.type, "arguments": arguments}


def write_frame(one: Any, point: Point) -> dict[str, Any]:
    """The row of a frame."""
    arguments = write_arguments(one.arguments, point)
    return {"predicate": point(one.predicate), "arguments": arguments}


def write_triplet(one: Any, point: Point) -> dict[str, Any]:
    """The row of a triplet."""
    polarity = one.polarity
    return {"aspect": point(one.aspect), "opinion": point(one.opinion), "polarity": polarity}


WRITERS: dict[str, Callable[[Any, Point], dict[str, Any]]] = {
    "relations": write_relation,
    "events": write_event,
    "frames": write_frame,
    "triplets": write_triplet,
}


READERS: dict[str, Callable[[Mapping[str, Any], Sequence[Span]], Structure]] = {
    "relations": read_relation,
    "events": read_event,
    "frames": read_frame,
    "triplets": read_triplet,
}
