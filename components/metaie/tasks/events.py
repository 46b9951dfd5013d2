"""Events: triggers are asked by type first, then the arguments of each by role."""

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict
from spacy.tokens import Doc, Span

from ..spans import SPANS_KEY
from .arguments import gather_arguments
from .schema import (
    Found,
    Label,
    Part,
    Schema,
    check_repeated,
    choose_best,
    distinct_by,
    fill_template,
    name_anchor,
    select,
    template,
)
from .structures import Event


class EventType(BaseModel):
    """A type of event and the roles that its arguments may play."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Label
    roles: Annotated[list[Label], AfterValidator(check_repeated)] = []


class EventSchema(Schema):
    """Events and the roles of their arguments:

        {"family": "events", "events": [{"type": "merger", "roles": ["buyer", "price"]}]}

    query: how a role and a trigger are put into a label.
    """

    attr = "events"
    family: Literal["events"] = "events"
    events: Annotated[list[EventType], distinct_by("type")]
    query: Annotated[str, template("trigger", "role")] = "{role} of {trigger}"

    def labels(self) -> list[str]:
        """The types of events, whose answers are triggers."""
        return [event.type for event in self.events]

    def ask(self, anchor: Span, found: Collection[str] | None = None) -> dict[str, str]:
        """Ask for the arguments of a trigger; one without a label is asked every role."""
        return {
            role: fill_template(self.query, {"trigger": name_anchor(anchor), "role": role})
            for event in self.events
            if not anchor.label_ or event.type == anchor.label_
            for role in event.roles
        }

    def choose(self, found: Sequence[Found]) -> list[Found]:
        """A trigger is of one type: the one with the best score."""
        return choose_best(found)

    def read_gold(self, doc: Doc, key: str = SPANS_KEY) -> tuple[list[Span], list[Part]]:
        """The triggers and arguments of the doc's events, those that the schema names."""
        roles = {event.type: event.roles for event in self.events}
        events = [
            (event, Span(doc, event.trigger.start, event.trigger.end, label=event.type))
            for event in doc._.events
            if event.type in roles
        ]
        parts = [
            Part(Found(trigger), role, argument.span)
            for event, trigger in events
            for role, arguments in event.arguments.items()
            if role in roles[event.type]
            for argument in arguments
        ]
        return select((trigger for _, trigger in events), roles), parts

    def names(self) -> set[str]:
        """The types of events and their roles."""
        return {*self.labels(), *(role for event in self.events for role in event.roles)}

    def build(self, found: Iterable[Found], parts: Iterable[Part]) -> Sequence[Event]:
        """One event a trigger, with or without arguments."""
        return [
            Event(trigger.span, trigger.span.label_, arguments, trigger.score)
            for trigger, arguments in gather_arguments(found, parts)
        ]
