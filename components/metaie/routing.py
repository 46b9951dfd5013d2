"""Which labels to ask of a window, where each label is a pass over it.

A tagger that reads text and label together is asked, of hundreds of labels, those alone
that may have an answer. A cheap tagger says so (retrieve and rerank, as in Nogueira and
Cho, 2019, arXiv 1901.04085), or the answers to a label that is more general.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy
from spacy.language import Language
from spacy.tokens import Doc
from thinc.types import Floats2d

from .decoding import O
from .queries import cut_windows
from .spans import clean_label, clean_labels

Window = tuple[int, int]


class Filter(Protocol):
    """What a router asks of the component that filters labels."""

    def predict_tags(
        self, docs: Sequence[Doc], asked: Sequence[list[str]]
    ) -> Iterator[tuple[int, str, Floats2d]]:
        """Yield (number of the doc, label, tag probabilities of its tokens)."""


class LabelRouter:
    """Chooses labels by a cheaper component, and by a hierarchy of labels.

    top_k: how many labels to ask of a window, 0 for all.
    component: the pipeline's `metaie` component that ranks them, which may be disabled.
    hierarchy: labels under more general ones. A label is asked of a window only if one of
        those that it stands under has an answer there, or if none of them is asked.
    """

    def __init__(self, top_k: int, component: str, hierarchy: Mapping[str, Sequence[str]]) -> None:
        if top_k < 0:
            raise ValueError(f"The router's top_k must be 0 (all labels) or more, not {top_k}.")
        if top_k and not component:
            raise ValueError(
                f"The router's top_k is {top_k}, but no component ranks the labels: set "
                "`component` to the name of another metaie component of the pipeline."
            )
        self.top_k = top_k
        self.component = component
        self.parents: dict[str, list[str]] = {}
        for parent, children in hierarchy.items():
            for child in clean_labels(children):
                self.parents.setdefault(child, []).append(clean_label(parent))
        self.depths: dict[str, int] = {}
        for label in self.parents:
            self._set_depth(label, ())
        self._nlp: Language | None = None

    def _set_depth(self, label: str, below: tuple[str, ...]) -> int:
        if label in below:
            circle = " > ".join((label, *reversed(below[below.index(label) :])))
            raise ValueError(f"The router's hierarchy goes in a circle: {circle}.")
        if label not in self.depths:
            above = [self._set_depth(p, (*below, label)) for p in self.parents.get(label, ())]
            self.depths[label] = 1 + max(above, default=-1)
        return self.depths[label]

    def bind(self, nlp: Language) -> None:
        """Set the pipeline in which `component` is looked up, when it is first needed."""
        self._nlp = nlp

    def get_filter(self) -> Filter:
        """The component that ranks labels. Raises ValueError if the pipeline has none."""
        names = self._nlp.component_names if self._nlp is not None else []
        if self._nlp is None or self.component not in names:
            raise ValueError(
                f"The router's component {self.component!r} is not in the pipeline, which has "
                f"{names}: add it, as in `nlp.add_pipe('metaie', name={self.component!r}, "
                "source=...)`."
            )
        pipe = self._nlp.get_pipe(self.component)
        if not hasattr(pipe, "predict_tags"):
            raise ValueError(
                f"The router's component {self.component!r} is a {type(pipe).__name__}, and no "
                "metaie component."
            )
        return pipe  # type: ignore[return-value]

    def split(self, labels: Sequence[str]) -> list[list[str]]:
        """The labels by their depth in the hierarchy: what is asked first, second, ...

        Returns as many lists as the hierarchy has levels, at least one.
        """
        levels: list[list[str]] = [[] for _ in range(1 + max(self.depths.values(), default=0))]
        for label in labels:
            levels[self.depths.get(label, 0)].append(label)
        return levels


class Routes:
    """What a router lets through, for some docs and the labels asked of them."""

    def __init__(
        self,
        router: LabelRouter,
        docs: Sequence[Doc],
        asked: Sequence[list[str]],
        window: int,
        stride: int,
    ) -> None:
        self.router = router
        self.asked = [set(labels) for labels in asked]
        self.answers: list[dict[str, list[Window]]] = [{} for _ in docs]
        self.ranked: list[dict[Window, set[str]]] | None = None
        if router.top_k:
            scores: list[dict[Window, list[tuple[float, str]]]] = [{} for _ in docs]
            windows = [cut_windows(len(doc), window, stride) for doc in docs]
            for i, label, probs in router.get_filter().predict_tags(docs, asked):
                likely = 1.0 - probs[:, O]
                for start, end in windows[i]:
                    best = float(likely[start:end].max())
                    scores[i].setdefault((start, end), []).append((best, label))
            self.ranked = [
                {at: choose_best(ranking, router.top_k) for at, ranking in own.items()}
                for own in scores
            ]

    def add_answers(self, i: int, label: str, spans: Sequence[Window]) -> None:
        """Note what was found for a label in doc `i`."""
        self.answers[i][label] = list(spans)

    def is_open(self, i: int, start: int, end: int, label: str) -> bool:
        """Whether to ask the label of the tokens `start` to `end` of doc `i`."""
        if self.ranked is not None and label not in self.ranked[i][start, end]:
            return False
        parents = [p for p in self.router.parents.get(label, ()) if p in self.asked[i]]
        return not parents or any(
            first < end and last > start
            for parent in parents
            for first, last in self.answers[i].get(parent, ())
        )


IsOpen = Callable[[int, int, int, str], bool]


def choose_best(ranking: Sequence[tuple[float, str]], top_k: int) -> set[str]:
    """The labels with the highest scores; of equal ones the first."""
    scores = numpy.array([score for score, _ in ranking])
    best = numpy.argsort(-scores, kind="stable")[:top_k]
    return {ranking[i][1] for i in best}


def create_label_router(
    top_k: int = 0, component: str = "", hierarchy: Mapping[str, Sequence[str]] = {}
) -> LabelRouter:
    """Build `metaie.LabelRouter.v1`; see `LabelRouter`."""
    return LabelRouter(top_k, component, hierarchy)
