"""Relations: entities are asked first, then the tails of each head, as `<head> <relation>`."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator
from spacy.tokens import Doc, Span

from ..spans import SPANS_KEY
from .schema import (
    Found,
    Label,
    Labels,
    Part,
    Schema,
    choose_best,
    distinct_by,
    fill_template,
    name_anchor,
    select,
    template,
)
from .structures import Relation

# "works for: person | politician -> organization"
LINE = re.compile(r"(?P<label>[^:]+):(?P<head>[^:>]+?)(?:->|→)(?P<tail>[^:>]+)")


class RelationType(BaseModel):
    """A relation and the entity types at its ends.

    As a line: `works for: person -> organization`, or with alternatives,
    `based in: company | agency -> city`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Label
    head: Labels
    tail: Labels

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = LINE.fullmatch(value)
        if match is None:
            raise ValueError(
                f"the relation {value!r} is not written as 'works for: person -> organization'"
            )
        return {
            "label": match["label"],
            "head": match["head"].split("|"),
            "tail": match["tail"].split("|"),
        }


class RelationSchema(Schema):
    """Relations between entities:

        {"family": "relations", "entities": ["person", "organization"],
         "relations": ["works for: person -> organization"]}

    Of a head only the relations are asked that its type has, and only where something that
    may be a tail was found. A tail must overlap such an entity, not the head itself, and takes
    its ends.

    query: how a head and a relation are put into a label.
    """

    attr = "relations"
    family: Literal["relations"] = "relations"
    entities: Labels
    relations: Annotated[list[RelationType], distinct_by("label")]
    query: Annotated[str, template("head", "relation")] = "{head} {relation}"

    @model_validator(mode="after")
    def _check_types(self) -> Self:
        for relation in self.relations:
            for end, types in (("head", relation.head), ("tail", relation.tail)):
                unknown = [label for label in types if label not in self.entities]
                if unknown:
                    raise ValueError(
                        f"the {end} of the relation {relation.label!r} is of a type that is not "
                        f"among the entities {self.entities}, so no query would find it: "
                        f"{', '.join(map(repr, unknown))}"
                    )
        return self

    def labels(self) -> list[str]:
        """The entity types."""
        return list(self.entities)

    def ask(self, anchor: Span, found: Collection[str] | None = None) -> dict[str, str]:
        """Ask for the tails of a head; a head without a label is asked every relation."""
        return {
            relation.label: fill_template(
                self.query, {"head": name_anchor(anchor), "relation": relation.label}
            )
            for relation in self.relations
            if (not anchor.label_ or anchor.label_ in relation.head)
            and (found is None or not set(found).isdisjoint(relation.tail))
        }

    def choose(self, found: Sequence[Found]) -> list[Found]:
        """An entity is of one type: the one with the best score."""
        return choose_best(found)

    def read_gold(self, doc: Doc, key: str = SPANS_KEY) -> tuple[list[Span], list[Part]]:
        """The group's entities and the doc's relations, those that the schema names."""
        tails = {relation.label: relation.tail for relation in self.relations}
        parts = [
            Part(Found(relation.head), relation.label, relation.tail)
            for relation in doc._.relations
            if relation.label in tails
        ]
        ends = [end for part in parts for end in (part.anchor.span, part.span)]
        return select([*doc.spans.get(key, []), *ends], self.entities), parts

    def names(self) -> set[str]:
        """The entity types and the relations."""
        return {*self.entities, *(relation.label for relation in self.relations)}

    def build(self, found: Iterable[Found], parts: Iterable[Part]) -> Sequence[Relation]:
        """One relation a head, label and tail, with the product of the scores of its ends.

        found: the entities; without any, as where heads were given, tails stay as they are.
        """
        by_token: dict[int, list[Found]] = {}
        for entity in found:
            for token in range(entity.span.start, entity.span.end):
                by_token.setdefault(token, []).append(entity)
        tails = {relation.label: relation.tail for relation in self.relations}
        built: dict[tuple[Any, ...], Relation] = {}
        for part in parts:
            head = part.anchor.span
            near = [one for token in part.span for one in by_token.get(token.i, ())]
            others = [one for one in near if one.span != head]
            tail = find_entity(part.span, tails[part.name], others) if by_token else part.span
            if tail is None or (tail.start, tail.end) == (head.start, head.end):
                continue
            score = part.anchor.score * part.score
            place = (head.start, head.end, part.name, tail.start, tail.end)
            if place not in built or built[place].score < score:
                built[place] = Relation(head, part.name, tail, score)
        return list(built.values())


def find_entity(span: Span, labels: Collection[str], entities: Iterable[Found]) -> Span | None:
    """The entity of one of the labels that a span shares most tokens with, if it shares any."""

    def rank(entity: Found) -> tuple[int, int, float]:
        shared = min(entity.span.end, span.end) - max(entity.span.start, span.start)
        return shared, -len(entity.span), entity.score

    ranked = [(rank(entity), entity.span) for entity in entities if entity.span.label_ in labels]
    best = max(ranked, key=lambda pair: pair[0], default=None)
    return best[1] if best is not None and best[0][0] > 0 else None
