"""Sentiment triplets: aspects by polarity are asked first, then the opinion of each."""

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Literal

from spacy.tokens import Doc, Span

from ..spans import SPANS_KEY
from .aspects import POLARITIES, PolarityQuery, ask_polarities
from .schema import (
    Found,
    Labels,
    Part,
    Schema,
    choose_best,
    fill_template,
    name_anchor,
    select,
    template,
)
from .structures import Triplet


class TripletSchema(Schema):
    """Aspects, what is said of them, and its polarity: `{"family": "triplets"}`.

    polarities: what can be said of an aspect.
    aspect_query: how the aspects of a polarity are asked.
    query: how the opinion of an aspect is.
    """

    attr = "triplets"
    family: Literal["triplets"] = "triplets"
    polarities: Labels = POLARITIES
    aspect_query: PolarityQuery = "{polarity} aspect"
    query: Annotated[str, template("polarity", "aspect")] = "{polarity} opinion of {aspect}"

    def by_label(self) -> dict[str, str]:
        """The polarity that each first query asks for."""
        return ask_polarities(self.aspect_query, self.polarities)

    def labels(self) -> list[str]:
        """A query for the aspects of each polarity."""
        return list(self.by_label())

    def ask(self, anchor: Span, found: Collection[str] | None = None) -> dict[str, str]:
        """Ask for the opinion of an aspect; of one without a label, in every polarity."""
        return {
            polarity: fill_template(
                self.query, {"polarity": polarity, "aspect": name_anchor(anchor)}
            )
            for label, polarity in self.by_label().items()
            if anchor.label_ in ("", label)
        }

    def choose(self, found: Sequence[Found]) -> list[Found]:
        """An aspect has one polarity: the one with the best score."""
        return choose_best(found)

    def read_gold(self, doc: Doc, key: str = SPANS_KEY) -> tuple[list[Span], list[Part]]:
        """The aspects and opinions of the doc's triplets."""
        labels = {polarity: label for label, polarity in self.by_label().items()}
        parts = [
            Part(
                Found(Span(doc, one.aspect.start, one.aspect.end, label=labels[one.polarity])),
                one.polarity,
                one.opinion,
            )
            for one in doc._.triplets
            if one.polarity in labels
        ]
        return select((part.anchor.span for part in parts), list(labels.values())), parts

    def names(self) -> set[str]:
        """The polarities, and how they are asked."""
        return {*self.labels(), *self.polarities}

    def build(self, found: Iterable[Found], parts: Iterable[Part]) -> Sequence[Triplet]:
        """One triplet an opinion; an aspect without any makes none."""
        return [
            Triplet(part.anchor.span, part.name, part.span, part.anchor.score * part.score)
            for part in parts
        ]
