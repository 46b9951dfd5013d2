"""Structures in rows of JSONL: they point to the row's spans by number.

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
from .structures import Argument, Event, Frame, Relation, Structure, Triplet


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


READERS: dict[str, Callable[[Mapping[str, Any], Sequence[Span]], Structure]] = {
    "relations": read_relation,
    "events": read_event,
    "frames": read_frame,
    "triplets": read_triplet,
}
