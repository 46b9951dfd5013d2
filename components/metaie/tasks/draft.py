"""A first schema, drafted from annotated docs."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from spacy.tokens import Doc

from ..spans import SPANS_KEY
from .families import FAMILIES, parse_schema
from .schema import Schema

# An entity type at the end of a relation that is rarer is taken for a slip of the annotation.
MIN_SHARE = 0.02


def draft_schema(
    docs: Iterable[Doc], family: str, min_count: int = 1, key: str = SPANS_KEY
) -> Schema:
    """The schema of all that occurs in annotated docs.

    Relations get the entity types that at least 2 % of their heads and tails have.
    min_count: leave out types, relations and roles that occur less often.

    Raises ValueError for an unknown family, and if nothing of it occurs.
    """
    if family not in FAMILIES:
        raise ValueError(
            f"There is no family {family!r}. It is one of {', '.join(map(repr, FAMILIES))}."
        )
    return parse_schema({"family": family, **DRAFTS[family](list(docs), min_count, key)})


def take(counts: Counter[str], min_count: float) -> list[str]:
    """What is counted so often, the frequent first."""
    return [label for label, n in counts.most_common() if n >= min_count]


def draft_entities(docs: list[Doc], min_count: int, key: str) -> dict[str, Any]:
    """The labels of spans."""
    counts = Counter(span.label_ for doc in docs for span in doc.spans.get(key, ()))
    return {"entities": take(counts, min_count)}


def draft_relations(docs: list[Doc], min_count: int, key: str) -> dict[str, Any]:
    """The labels of spans, and the relations with the types of their heads and tails."""
    heads: dict[str, Counter[str]] = {}
    tails: dict[str, Counter[str]] = {}
    for relation in (relation for doc in docs for relation in doc._.relations):
        heads.setdefault(relation.label, Counter())[relation.head.label_] += 1
        tails.setdefault(relation.label, Counter())[relation.tail.label_] += 1
    relations = {label: types for label, types in heads.items() if types.total() >= min_count}
    entities = draft_entities(docs, min_count, key)["entities"]
    ends = [
        end
        for label, types in relations.items()
        for counts in (types, tails[label])
        for end in take(counts, MIN_SHARE * types.total())
    ]
    return {
        # Rare types as well, where a relation is not rare.
        "entities": list(dict.fromkeys([*entities, *ends])),
        "relations": [
            {
                "label": label,
                "head": take(types, MIN_SHARE * types.total()),
                "tail": take(tails[label], MIN_SHARE * types.total()),
            }
            for label, types in relations.items()
        ],
    }


def draft_events(docs: list[Doc], min_count: int, key: str) -> dict[str, Any]:
    """The types of events, with their roles."""
    types: dict[str, Counter[str]] = {}
    counts: Counter[str] = Counter()
    for event in (event for doc in docs for event in doc._.events):
        counts[event.type] += 1
        roles = types.setdefault(event.type, Counter())
        for role, arguments in event.arguments.items():
            roles[role] += len(arguments)
    return {
        "events": [
            {"type": label, "roles": take(roles, min_count)}
            for label, roles in types.items()
            if counts[label] >= min_count
        ]
    }


def draft_roles(docs: list[Doc], min_count: int, key: str) -> dict[str, Any]:
    """The roles of frames."""
    roles: Counter[str] = Counter()
    for frame in (frame for doc in docs for frame in doc._.frames):
        for role, arguments in frame.arguments.items():
            roles[role] += len(arguments)
    return {"roles": take(roles, min_count)}


def draft_aspects(docs: list[Doc], min_count: int, key: str) -> dict[str, Any]:
    """The polarities of spans that are labelled `<polarity> aspect`."""
    labels = draft_entities(docs, min_count, key)["entities"]
    return {
        "polarities": [
            label.removesuffix(" aspect") for label in labels if label.endswith(" aspect")
        ]
    }


def draft_triplets(docs: list[Doc], min_count: int, key: str) -> dict[str, Any]:
    """The polarities of triplets."""
    counts = Counter(triplet.polarity for doc in docs for triplet in doc._.triplets)
    return {"polarities": take(counts, min_count)}


DRAFTS: dict[str, Callable[[list[Doc], int, str], dict[str, Any]]] = {
    "entities": draft_entities,
    "relations": draft_relations,
    "events": draft_events,
    "roles": draft_roles,
    "aspects": draft_aspects,
    "triplets": draft_triplets,
}
