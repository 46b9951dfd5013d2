"""Aspect sentiment: `positive aspect` and its like are asked, and that is all."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from spacy.tokens import Doc, Span

from ..spans import SPANS_KEY
from .schema import Found, Labels, Part, Schema, choose_best, fill_template, select, template
from .structures import Aspect

POLARITIES = ["positive", "negative", "neutral"]
PolarityQuery = Annotated[str, template("polarity")]


def ask_polarities(query: str, polarities: Iterable[str]) -> dict[str, str]:
    """The queries for aspects, each with the polarity that it asks for."""
    return {fill_template(query, {"polarity": polarity}): polarity for polarity in polarities}


class AspectSchema(Schema):
    """Aspects by polarity: `{"family": "aspects"}`.

    polarities: what can be said of an aspect.
    query: how a polarity is asked.
    """

    attr = "aspects"
    family: Literal["aspects"] = "aspects"
    polarities: Labels = POLARITIES
    query: PolarityQuery = "{polarity} aspect"

    def by_label(self) -> dict[str, str]:
        """The polarity that each query asks for."""
        return ask_polarities(self.query, self.polarities)

    def labels(self) -> list[str]:
        """A query for each polarity."""
        return list(self.by_label())

    def choose(self, found: Sequence[Found]) -> list[Found]:
        """An aspect has one polarity: the one with the best score."""
        return choose_best(found)

    def read_gold(self, doc: Doc, key: str = SPANS_KEY) -> tuple[list[Span], list[Part]]:
        """The doc's aspects, and spans of the group that are labelled as the queries are."""
        labels = {polarity: label for label, polarity in self.by_label().items()}
        aspects = [
            Span(doc, aspect.span.start, aspect.span.end, label=labels[aspect.polarity])
            for aspect in doc._.aspects
            if aspect.polarity in labels
        ]
        return select([*doc.spans.get(key, []), *aspects], list(labels.values())), []

    def names(self) -> set[str]:
        """The polarities, and how they are asked."""
        return {*self.labels(), *self.polarities}

    def build(self, found: Iterable[Found], parts: Iterable[Part]) -> Sequence[Aspect]:
        """One aspect an answer."""
        polarities = self.by_label()
        return [Aspect(one.span, polarities[one.span.label_], one.score) for one in found]
