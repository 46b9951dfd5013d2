"""The field's measures of what a schema finds: exact micro F1."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from spacy.scorer import PRFScore
from spacy.tokens import Doc
from spacy.training import Example

from ..spans import SPANS_KEY, get_queries
from .schema import Schema
from .structures import Row, get_rows

Facts = dict[str, set[tuple[Any, ...]]]


def score_structures(
    examples: Iterable[Example], *, schema: Schema, spans_key: str = SPANS_KEY, **kwargs: Any
) -> dict[str, float]:
    """Score predicted docs against references that were annotated for the same schema.

    Everything is counted once a doc, by its place in characters: entities and aspects with their
    type or polarity; relations as (head, relation, tail); triggers with the type of their event;
    arguments with the type of the event, or the place of the predicate, and the role; triplets as
    (aspect, polarity, opinion). What the schema does not name is left out on both sides. Docs
    whose reference was not annotated are left out.

    Returns {"relations_p", "relations_r", "relations_f"} and, by family, the like of
    "entities", "triggers", "event_arguments", "predicates", "frame_arguments", "aspects" and
    "triplets", each in [0, 1].
    """
    scores: dict[str, PRFScore] = {}
    for example in examples:
        gold = list_facts(schema, example.reference, spans_key)
        guess = list_facts(schema, example.predicted, spans_key)
        for name, facts in gold.items():
            scores.setdefault(name, PRFScore()).score_set(guess.get(name, set()), facts)
    return {
        f"{name}_{letter}": value
        for name, prf in scores.items()
        for letter, value in zip("prf", (prf.precision, prf.recall, prf.fscore), strict=True)
    }


def list_facts(schema: Schema, doc: Doc, spans_key: str = SPANS_KEY) -> Facts:
    """What the doc says in the schema's terms, by measure; {} if it is not annotated."""
    if schema.attr is None:
        labels = set(schema.labels()) & set(get_queries(doc, spans_key))
        if not labels:
            return {}
        return {
            "entities": {
                (span.start_char, span.end_char, span.label_)
                for span in doc.spans[spans_key]
                if span.label_ in labels
            }
        }
    rows = get_rows(doc, schema.attr)
    return {} if rows is None else FACTS[schema.attr](schema, rows)


def place(span: Mapping[str, Any]) -> tuple[int, int]:
    """Where a span is, in characters."""
    return span["start"], span["end"]


def list_relations(schema: Any, rows: Iterable[Row]) -> Facts:
    """(head, relation, tail)."""
    labels = {relation.label for relation in schema.relations}
    return {
        "relations": {
            (*place(row["head"]), row["label"], *place(row["tail"]))
            for row in rows
            if row["label"] in labels
        }
    }


def list_events(schema: Any, rows: Iterable[Row]) -> Facts:
    """Triggers by type, arguments by type and role."""
    roles = {event.type: set(event.roles) for event in schema.events}
    rows = [row for row in rows if row["type"] in roles]
    return {
        "triggers": {(row["type"], *place(row["trigger"])) for row in rows},
        "event_arguments": {
            (row["type"], role, *place(argument))
            for row in rows
            for role, arguments in row["arguments"].items()
            if role in roles[row["type"]]
            for argument in arguments
        },
    }


def list_frames(schema: Any, rows: Iterable[Row]) -> Facts:
    """Predicates, and arguments by predicate and role."""
    rows = list(rows)
    return {
        "predicates": {place(row["predicate"]) for row in rows},
        "frame_arguments": {
            (*place(row["predicate"]), role, *place(argument))
            for row in rows
            for role, arguments in row["arguments"].items()
            if role in schema.roles
            for argument in arguments
        },
    }


def list_aspects(schema: Any, rows: Iterable[Row]) -> Facts:
    """Aspects by polarity."""
    return {
        "aspects": {
            (row["polarity"], *place(row["span"]))
            for row in rows
            if row["polarity"] in schema.polarities
        }
    }


def list_triplets(schema: Any, rows: Iterable[Row]) -> Facts:
    """(aspect, polarity, opinion)."""
    return {
        "triplets": {
            (*place(row["aspect"]), row["polarity"], *place(row["opinion"]))
            for row in rows
            if row["polarity"] in schema.polarities
        }
    }


FACTS: dict[str, Callable[[Any, Iterable[Row]], Facts]] = {
    "relations": list_relations,
    "events": list_events,
    "frames": list_frames,
    "aspects": list_aspects,
    "triplets": list_triplets,
}


def make_structure_scorer() -> Callable[..., dict[str, float]]:
    """Build `metaie.structure_scorer.v1`."""
    return score_structures
