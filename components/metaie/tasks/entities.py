"""Named entities: a query for each type."""

from typing import Literal

from spacy.tokens import Doc, Span

from ..spans import SPANS_KEY
from .schema import Labels, Part, Schema, select


class EntitySchema(Schema):
    """Entity types: `{"family": "entities", "entities": ["person", "organization"]}`.

    Answers go to the span group and, the best that do not overlap, to `doc.ents`.
    """

    family: Literal["entities"] = "entities"
    entities: Labels

    def labels(self) -> list[str]:
        """The entity types."""
        return list(self.entities)

    def read_gold(self, doc: Doc, key: str = SPANS_KEY) -> tuple[list[Span], list[Part]]:
        """The spans of the group that are of the schema's types."""
        return select(doc.spans.get(key, []), self.entities), []
