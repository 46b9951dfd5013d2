"""The component `metaie_structure`: answers ──▶ relations, events, frames, aspects, triplets."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import srsly
from spacy.language import Language
from spacy.pipeline import Pipe
from spacy.tokens import Doc, Span
from spacy.util import logger, minibatch

from ..decoding import choose_ents
from ..pipe import MetaIE, check_threshold
from ..queries import cut_windows
from ..spans import get_answers, get_queries, get_scores, set_answers
from .families import parse_schema
from .mentions import Question, make_questions, share_answers
from .schema import Found, Schema
from .scoring import score_structures
from .structures import STRUCTURES, Structure


@Language.factory(
    "metaie_structure",
    requires=["doc.spans"],
    assigns=["doc.spans", "doc.ents", *(f"doc._.{attr}" for attr in STRUCTURES)],
    default_config={
        "component": "metaie",
        "anchors_key": None,
        "threshold": None,
        "max_anchors": 500,
        "scorer": {"@scorers": "metaie.structure_scorer.v1"},
    },
)
def make_structure(
    nlp: Language,
    name: str,
    schema: dict[str, Any],
    component: str,
    anchors_key: str | None,
    threshold: float | None,
    max_anchors: int,
    scorer: Callable | None,
) -> "MetaIEStructure":
    """Build the component `metaie_structure`, which finds what a schema describes.

    schema: what to find; see `metaie.tasks.families`.
    component: the name of the pipeline's `metaie` component, which is asked.
    anchors_key: the span group with the heads, triggers, predicates or aspects, where these
        are given; null asks for them.
    threshold: the score of an answer to a second query; null takes that of the component.
    max_anchors: about how many heads, triggers and so on of a doc second queries are asked; of
        more, those with the best scores.
    scorer: the scoring method.

    The component asks the pipeline that it is made for, even where another one takes it over
    with `source`: add it there anew.
    """
    parsed = parse_schema(schema)
    for other, pipe in nlp.pipeline:
        if isinstance(pipe, MetaIEStructure) and pipe.schema.attr == parsed.attr:
            raise ValueError(
                f"The component {name!r} would overwrite the {parsed.family} of {other!r}: merge "
                "their schemas into one."
            )
    return MetaIEStructure(
        nlp,
        name,
        parsed,
        component=component,
        anchors_key=anchors_key,
        threshold=threshold,
        max_anchors=max_anchors,
        scorer=scorer,
    )


def add_structure(nlp: Language, schema: Schema, **config: Any) -> "MetaIEStructure":
    """Add a `metaie_structure` to a pipeline whose `metaie` component is to ask the schema alone.

    config: further settings of the factory. Raises ValueError if there is no such component, or
    if the pipeline has a schema already.
    """
    if nlp.has_pipe("metaie_structure"):
        raise ValueError(
            "The pipeline has a schema of its own: take it without `--schema`, or remove its "
            "component 'metaie_structure' first."
        )
    component = next((name for name, pipe in nlp.pipeline if isinstance(pipe, MetaIE)), None)
    if component is None:
        raise ValueError(f"The pipeline has no metaie component, only {nlp.pipe_names}.")
    given = config.get("anchors_key") is not None
    nlp.get_pipe(component).labels = [] if given else schema.labels()  # type: ignore[attr-defined]
    config = {"schema": schema.to_dict(), "component": component, **config}
    return nlp.add_pipe("metaie_structure", config=config)  # type: ignore[return-value]


class MetaIEStructure(Pipe):
    """Asks a schema's first queries where nobody has, then its second, and builds its structure.

    The answers to the first are added to the doc's span group; the structures are set as
    `doc._.relations`, `events`, `frames`, `aspects` or `triplets`, and entities as `doc.ents`.
    """

    def __init__(
        self,
        nlp: Language,
        name: str,
        schema: Schema,
        *,
        component: str = "metaie",
        anchors_key: str | None = None,
        threshold: float | None = None,
        max_anchors: int = 500,
        scorer: Callable | None = score_structures,
    ) -> None:
        if max_anchors < 1:
            raise ValueError(f"max_anchors must be 1 or more, not {max_anchors}.")
        if anchors_key is not None and schema.family in ("entities", "aspects"):
            raise ValueError(
                f"A schema of {schema.family} asks nothing about anchors, so there is nothing to "
                f"do for those given under {anchors_key!r}: leave out `anchors_key`."
            )
        self.nlp = nlp
        self.name = name
        self.schema = schema
        self.component = component
        self.anchors_key = anchors_key
        self.threshold = None if threshold is None else check_threshold(threshold)
        self.max_anchors = max_anchors
        self.scorer = scorer

    @property
    def metaie(self) -> MetaIE:
        """The component that is asked. Raises ValueError if the pipeline has none."""
        names = self.nlp.component_names
        pipe = self.nlp.get_pipe(self.component) if self.component in names else None
        if not isinstance(pipe, MetaIE):
            raise ValueError(
                f"The component {self.name!r} asks the metaie component {self.component!r}, but "
                f"the pipeline has only {names}. Set its `component`."
            )
        return pipe

    def __call__(self, doc: Doc) -> Doc:
        """Find the structures of one doc."""
        self.annotate([doc])
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 64) -> Iterator[Doc]:
        """Find the structures of docs, batch by batch."""
        error_handler = self.get_error_handler()
        for docs in minibatch(stream, batch_size):
            try:
                self.annotate(docs)
            except Exception as err:
                error_handler(self.name, self, docs, err)
            else:
                yield from docs

    def annotate(self, docs: Sequence[Doc]) -> None:
        """Find the structures of a batch of docs, and set them."""
        first = self._ask_first(docs)
        anchors = [self._choose_anchors(doc, found) for doc, found in zip(docs, first, strict=True)]
        questions = [
            make_questions(self.schema, own, {one.span.label_ for one in found} if found else None)
            for own, found in zip(anchors, first, strict=True)
        ]
        second = self._ask_second(docs, questions)
        for doc, found, own, asked, answers in zip(
            docs, first, anchors, questions, second, strict=True
        ):
            given = self.anchors_key is not None
            bases = own if given and self.schema.attr != "relations" else found
            self._set(doc, found, self.schema.build(bases, share_answers(asked, answers)))

    def _ask_first(self, docs: Sequence[Doc]) -> list[list[Found]]:
        """The answers to the schema's first queries: those that are there, and the others'."""
        if self.anchors_key is not None:
            return [[] for _ in docs]
        metaie, labels = self.metaie, self.schema.labels()
        # Also the labels of spans that something else added to the group have their answers.
        known = [get_answers(doc, metaie.key) for doc in docs]
        missing = [[label for label in labels if label not in own] for own in known]
        asked = metaie.ask(docs, missing)
        for doc, own, prediction in zip(docs, known, asked, strict=True):
            queries = [*own, *prediction.queries]
            if queries == get_queries(doc, metaie.key):
                continue
            old = list(doc.spans.get(metaie.key, []))
            scores = get_scores(doc, metaie.key)
            new = [Span(doc, start, end, label) for start, end, label, _ in prediction.answers]
            set_answers(
                doc,
                [*old, *new],
                queries,
                [
                    *(scores if scores is not None else [1.0] * len(old)),
                    *(score for *_, score in prediction.answers),
                ],
                key=metaie.key,
            )
        return [self.schema.choose(find_answers(doc, labels, metaie.key)) for doc in docs]

    def _choose_anchors(self, doc: Doc, found: list[Found]) -> list[Found]:
        """What second queries are asked about: no more than `max_anchors`, the best."""
        if self.anchors_key is not None:
            found = [Found(span) for span in doc.spans.get(self.anchors_key, [])]
            return self._bound(doc, found)
        labels = {one.span.label_ for one in found}
        return self._bound(doc, [one for one in found if self.schema.ask(one.span, labels)])

    def _bound(self, doc: Doc, found: list[Found]) -> list[Found]:
        """At most `max_anchors` of those found, with a warning where there are more."""
        if len(found) <= self.max_anchors:
            return found
        logger.warning(
            "%d spans of a doc (%r...) can be asked about further. Only the %d with the best "
            "scores are: see `max_anchors` of %r.",
            len(found),
            doc[:8].text,
            self.max_anchors,
            self.name,
        )
        best = sorted(found, key=lambda one: -one.score)[: self.max_anchors]
        return sorted(best, key=lambda one: (one.span.start, one.span.end))

    def _ask_second(
        self, docs: Sequence[Doc], questions: Sequence[list[Question]]
    ) -> list[dict[str, list[Found]]]:
        """The answers to the second queries, by query; each is asked where its anchor stands."""
        metaie = self.metaie
        places = [
            {one.query: [anchor.span for anchor, _ in one.about] for one in own}
            for own in questions
        ]
        long = {
            i
            for i, doc in enumerate(docs)
            if len(cut_windows(len(doc), metaie.cfg["window"], metaie.cfg["stride"])) > 1
        }

        def is_open(i: int, start: int, end: int, query: str) -> bool:
            return i not in long or any(
                span.start < end and start < span.end for span in places[i][query]
            )

        asked = metaie.ask(docs, [list(own) for own in places], self.threshold, is_open)
        answers: list[dict[str, list[Found]]] = []
        for doc, prediction in zip(docs, asked, strict=True):
            own: dict[str, list[Found]] = {}
            for start, end, label, score in prediction.answers:
                own.setdefault(label, []).append(Found(Span(doc, start, end, label), score))
            answers.append(own)
        return answers

    def _set(self, doc: Doc, found: list[Found], structures: Sequence[Structure]) -> None:
        if self.schema.attr is None:
            doc.set_ents(choose_ents([one.span for one in found], [one.score for one in found]))
        else:
            setattr(doc._, self.schema.attr, structures)

    def score(self, examples: Iterable[Any], **kwargs: Any) -> dict[str, Any]:
        """Score docs with the scorer; `{}` without one."""
        if self.scorer is None:
            return {}
        settings = {"spans_key": self.metaie.key, **kwargs}
        return dict(self.scorer(examples, schema=self.schema, **settings))

    @property
    def cfg(self) -> dict[str, Any]:
        """What is saved. A config alone would not do: it reads a label's "$" as a variable."""
        return {
            "schema": self.schema.to_dict(),
            "component": self.component,
            "anchors_key": self.anchors_key,
            "threshold": self.threshold,
            "max_anchors": self.max_anchors,
        }

    @cfg.setter
    def cfg(self, cfg: dict[str, Any]) -> None:
        self.schema = parse_schema(cfg["schema"])
        self.component = cfg["component"]
        self.anchors_key = cfg["anchors_key"]
        self.threshold = cfg["threshold"]
        self.max_anchors = cfg["max_anchors"]

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the settings into a folder."""
        Path(path).mkdir(parents=True, exist_ok=True)
        srsly.write_json(Path(path) / "cfg", self.cfg)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "MetaIEStructure":
        """Read what `to_disk` wrote."""
        self.cfg = srsly.read_json(Path(path) / "cfg")
        return self

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The settings as bytes."""
        return srsly.json_dumps(self.cfg).encode("utf-8")

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> "MetaIEStructure":
        """Read what `to_bytes` wrote."""
        self.cfg = srsly.json_loads(data.decode("utf-8"))
        return self


def find_answers(doc: Doc, labels: Sequence[str], key: str) -> list[Found]:
    """The group's spans that answer one of the labels, with their scores if it has any."""
    group = doc.spans.get(key, [])
    scores = get_scores(doc, key)
    return [
        Found(span, 1.0 if scores is None else float(scores[i]))
        for i, span in enumerate(group)
        if span.label_ in set(labels)
    ]
