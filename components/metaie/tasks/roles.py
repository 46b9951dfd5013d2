"""Semantic roles: predicates are asked first, or given, then the arguments of each by role."""

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Literal

from spacy.tokens import Doc, Span

from ..spans import SPANS_KEY
from .arguments import gather_arguments
from .schema import (
    Found,
    Label,
    Labels,
    Part,
    Schema,
    fill_template,
    name_anchor,
    select,
    template,
)
from .structures import Frame


class RoleSchema(Schema):
    """Semantic roles: `{"family": "roles", "roles": ["agent", "patient", "time"]}`.

    predicate: the query that finds predicates.
    query: how a role and a predicate are put into a label.
    """

    attr = "frames"
    family: Literal["roles"] = "roles"
    predicate: Label = "predicate"
    roles: Labels
    query: Annotated[str, template("predicate", "role")] = "{role} of {predicate}"

    def labels(self) -> list[str]:
        """The query for predicates."""
        return [self.predicate]

    def ask(self, anchor: Span, found: Collection[str] | None = None) -> dict[str, str]:
        """Ask for every role of a predicate."""
        return {
            role: fill_template(self.query, {"predicate": name_anchor(anchor), "role": role})
            for role in self.roles
        }

    def read_gold(self, doc: Doc, key: str = SPANS_KEY) -> tuple[list[Span], list[Part]]:
        """The predicates of the doc's frames, and the arguments in roles of the schema."""
        frames = [
            (frame, Span(doc, frame.predicate.start, frame.predicate.end, label=self.predicate))
            for frame in doc._.frames
        ]
        parts = [
            Part(Found(predicate), role, argument.span)
            for frame, predicate in frames
            for role, arguments in frame.arguments.items()
            if role in self.roles
            for argument in arguments
        ]
        return select((predicate for _, predicate in frames), self.labels()), parts

    def names(self) -> set[str]:
        """The roles."""
        return set(self.roles)

    def build(self, found: Iterable[Found], parts: Iterable[Part]) -> Sequence[Frame]:
        """One frame a predicate, with or without arguments."""
        return [
            Frame(predicate.span, arguments, predicate.score)
            for predicate, arguments in gather_arguments(found, parts)
        ]
