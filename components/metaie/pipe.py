"""The pipeline component."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.util import load_model, logger, minibatch
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer, set_dropout_rate
from thinc.types import Floats2d

from .decoding import (
    choose_ents,
    decode_batch,
    join_windows,
    make_outside,
    make_tags,
    may_answer,
)
from .loss import TagLoss, create_tag_loss
from .queries import Query, cut_windows, make_queries
from .routing import IsOpen, LabelRouter, Routes
from .sampling import Sampler, create_sampler
from .scoring import score_examples
from .spans import (
    SPANS_KEY,
    clean_labels,
    drop_overlapping,
    get_answers,
    get_queries,
    get_tags,
    has_queries,
    set_answers,
)
from .tagger.shim import copy_transformer

# Tokens in queries that are predicted together. It bounds memory, whatever the
# number of docs, of labels and of tokens a doc, and leaves enough to sort by length.
BUFFER_TOKENS = 50_000
# Labels that are asked of a long doc's windows together: a tagger that reads a text once
# for all labels does so once a block, and the answers of a block are held until all
# windows are read.
LABEL_BLOCK = 64
# Queries whose answers are decoded together.
DECODED = 256

DEFAULT_CONFIG = """
[metaie]
labels = []
spans_key = "metaie"
threshold = 0.5
set_ents = false
window = 160
stride = 120
router = null

[metaie.scorer]
@scorers = "metaie.scorer.v1"

[metaie.sampler]
@misc = "metaie.Sampler.v1"

[metaie.loss]
@misc = "metaie.TagLoss.v1"

[metaie.model]
@architectures = "metaie.CrossEncoder.v1"
name = "sentence-transformers/all-MiniLM-L6-v2"
"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was asked of a doc, and the answers as (start, end, label, score)."""

    queries: list[str]
    answers: list[tuple[int, int, str, float]]

    def sort(self) -> None:
        """Put the answers in the order of the queries, and those of a query in that of the text."""
        order = {label: i for i, label in enumerate(self.queries)}
        self.answers.sort(key=lambda answer: (order[answer[2]], answer[0]))


@Language.factory(
    "metaie",
    assigns=["doc.spans"],
    default_config=Config().from_str(DEFAULT_CONFIG)["metaie"],
    default_score_weights={
        "spans_metaie_f": 1.0,
        "spans_metaie_p": 0.0,
        "spans_metaie_r": 0.0,
        "spans_metaie_macro_f": 0.0,
        "spans_metaie_false_answers": 0.0,
        "spans_metaie_per_type": None,
    },
)
def make_metaie(
    nlp: Language,
    name: str,
    model: Model[Sequence[Query], list[Floats2d]],
    labels: list[str],
    spans_key: str,
    threshold: float,
    set_ents: bool,
    window: int,
    stride: int,
    sampler: Sampler,
    loss: TagLoss,
    router: LabelRouter | None,
    scorer: Callable | None,
) -> "MetaIE":
    """Build the component `metaie`, which marks the spans that answer queried labels.

    model: a tagger; see `metaie.tagger`.
    labels: what is asked of docs that bring no queries of their own.
    spans_key: the key of `doc.spans` to read and write.
    threshold: a span is kept when its score reaches it, in [0, 1].
    set_ents: also write the best spans that do not overlap to `doc.ents`.
    window, stride: in tokens; longer docs are cut into overlapping windows.
    sampler: which queries a training step asks.
    loss: the loss of the tags.
    router: which labels to ask of each window; None asks all.
    scorer: the scoring method.
    """
    if router is not None:
        router.bind(nlp)
    return MetaIE(
        nlp.vocab,
        model,
        name,
        labels=labels,
        spans_key=spans_key,
        threshold=threshold,
        set_ents=set_ents,
        window=window,
        stride=stride,
        sampler=sampler,
        loss=loss,
        router=router,
        scorer=scorer,
    )


class MetaIE(TrainablePipe):
    """Marks the spans of a doc that answer queried labels.

    A doc's own queries (`doc._.queries = [...]`) win over the component's `labels`.
    Answers are written to `doc.spans[spans_key]`, in the shape of `metaie.spans`.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[Sequence[Query], list[Floats2d]],
        name: str = "metaie",
        *,
        labels: Iterable[str] = (),
        spans_key: str = SPANS_KEY,
        threshold: float = 0.5,
        set_ents: bool = False,
        window: int = 160,
        stride: int = 120,
        sampler: Sampler | None = None,
        loss: TagLoss | None = None,
        router: LabelRouter | None = None,
        scorer: Callable | None = score_examples,
    ) -> None:
        cut_windows(0, window, stride)  # raises if they do not fit
        self.vocab = vocab
        self.model = model
        self.name = name
        self.cfg: dict[str, Any] = {
            "labels": clean_labels(labels),
            "spans_key": spans_key,
            "threshold": check_threshold(threshold),
            "set_ents": set_ents,
            "window": window,
            "stride": stride,
        }
        self.sampler = sampler if sampler is not None else create_sampler()
        self.loss = loss if loss is not None else create_tag_loss()
        self.router = router
        self.scorer = scorer

    @property
    def key(self) -> str:
        """The key of `doc.spans` that is read and written."""
        return str(self.cfg["spans_key"])

    @property
    def labels(self) -> tuple[str, ...]:
        """What is asked of docs that bring no queries; settable at any time."""
        return tuple(self.cfg["labels"])

    @labels.setter
    def labels(self, labels: Iterable[str]) -> None:
        self.cfg["labels"] = clean_labels(labels)

    @property
    def label_data(self) -> list[str]:
        """What `spacy init labels` writes."""
        return list(self.labels)

    @property
    def threshold(self) -> float:
        """The score that a span must reach, in [0, 1]; settable at any time."""
        return float(self.cfg["threshold"])

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        self.cfg["threshold"] = check_threshold(threshold)

    def add_label(self, label: str) -> int:
        """Add a label to those asked. Returns 1, or 0 if it was there."""
        before = len(self.labels)
        self.labels = (*self.labels, label)
        return len(self.labels) - before

    def predict(self, docs: Iterable[Doc]) -> list[Prediction]:
        """Ask each doc its queries, or the component's labels, without changing it.

        Memory is bounded however long the docs and however many the labels: queries
        pass through the model by about 50,000 tokens, and a label's answers are
        decoded as soon as its last window is in; of a long doc, 64 labels at a time.
        """
        return self.predict_at(docs, [self.threshold])[0]

    def predict_at(
        self, docs: Iterable[Doc], thresholds: Sequence[float]
    ) -> list[list[Prediction]]:
        """Like `predict`, for several thresholds at the cost of one.

        Returns the docs' predictions for every threshold.
        """
        docs = list(docs)
        asked = [
            get_queries(doc, self.key) if has_queries(doc, self.key) else list(self.labels)
            for doc in docs
        ]
        return self._gather(self._find_spans(docs, asked, min(thresholds)), asked, thresholds)

    def ask(
        self,
        docs: Sequence[Doc],
        asked: Sequence[list[str]],
        threshold: float | None = None,
        is_open: IsOpen | None = None,
    ) -> list[Prediction]:
        """Ask each doc the given labels, without changing it; the router is not consulted.

        asked: the labels, each once, for each doc.
        threshold: by default the component's.
        is_open: where to ask; see `predict_tags`.
        """
        tags = self.predict_tags(docs, asked, every=False, is_open=is_open)
        thresholds = [self.threshold if threshold is None else threshold]
        return self._gather(self._decode(docs, tags), asked, thresholds)[0]

    @staticmethod
    def _gather(
        found: Iterable[tuple[int, str, list[tuple[int, int, float]]]],
        asked: Sequence[list[str]],
        thresholds: Sequence[float],
    ) -> list[list[Prediction]]:
        """The docs' predictions for every threshold."""
        predictions = [[Prediction(labels, []) for labels in asked] for _ in thresholds]
        for i, label, spans in found:
            for at_threshold, threshold in zip(predictions, thresholds, strict=True):
                at_threshold[i].answers.extend(
                    (start, end, label, score) for start, end, score in spans if score >= threshold
                )
        for at_threshold in predictions:
            for prediction in at_threshold:
                prediction.sort()
        return predictions

    def _decode(
        self, docs: Sequence[Doc], tags: Iterable[tuple[int, str, Floats2d]]
    ) -> Iterator[tuple[int, str, list[tuple[int, int, float]]]]:
        """Yield the spans of each label in each doc that `predict_tags` yields."""
        for batch in minibatch(tags, DECODED):
            decoded = decode_batch([probs for *_, probs in batch])
            for (i, label, _), spans in zip(batch, decoded, strict=True):
                yield i, label, list(strip_space(docs[i], spans))

    def _find_spans(
        self, docs: Sequence[Doc], asked: Sequence[list[str]], threshold: float
    ) -> Iterator[tuple[int, str, list[tuple[int, int, float]]]]:
        """Yield the spans of each label in each doc, with the router's consent if there is one.

        threshold: what an answer must reach for a label that stands under its own to be asked.
        """
        if self.router is None:
            yield from self._decode(docs, self.predict_tags(docs, asked, every=False))
            return
        routes = Routes(self.router, docs, asked, self.cfg["window"], self.cfg["stride"])
        for level in zip(*(self.router.split(labels) for labels in asked), strict=True):
            tags = self.predict_tags(docs, level, every=False, is_open=routes.is_open)
            for i, label, spans in self._decode(docs, tags):
                answers = [(start, end) for start, end, score in spans if score >= threshold]
                routes.add_answers(i, label, answers)
                yield i, label, spans

    def predict_tags(
        self,
        docs: Sequence[Doc],
        asked: Sequence[list[str]],
        *,
        every: bool = True,
        is_open: IsOpen | None = None,
    ) -> Iterator[tuple[int, str, Floats2d]]:
        """Yield the tag probabilities of each label in each doc, as they are computed.

        asked: the labels, for each doc.
        every: also where no token is likely to be in an answer.
        is_open: takes (number of the doc, first token, last token + 1, label) and says
            whether to ask; tokens that are in no window that is asked are O.
        Yields (number of the doc, label, probabilities of shape (tokens, 3)).
        """
        window, stride = self.cfg["window"], self.cfg["stride"]
        queries: list[Query] = []
        # Of each query: the number of its doc, and whether it is the last of its label there.
        places: list[tuple[int, bool]] = []
        # By label, of the doc whose windows are not yet all read.
        read: dict[str, list[tuple[tuple[int, int], Floats2d]]] = {}
        hopeful: set[str] = set()

        def flush() -> Iterator[tuple[int, str, Floats2d]]:
            predicted = self.model.predict(queries)
            for query, (i, is_last), probs, may in zip(
                queries, places, predicted, may_answer(predicted), strict=True
            ):
                if len(query) == len(query.doc):
                    if may or every:
                        yield i, query.label, probs
                    continue
                read.setdefault(query.label, []).append(((query.start, query.end), probs))
                if may or every:
                    hopeful.add(query.label)
                if is_last:
                    windows, parts = zip(*read.pop(query.label), strict=True)
                    if query.label in hopeful:
                        hopeful.remove(query.label)
                        yield i, query.label, join_windows(windows, parts, len(query.doc))
            queries.clear()
            places.clear()

        # A large model is asked about a window once for all labels, which must not be torn apart.
        together = self.model.attrs.get("asks_together", False)
        n_tokens = 0.0
        for i, doc in enumerate(docs):
            for labels in minibatch(asked[i], LABEL_BLOCK):
                block = [
                    query
                    for query in make_queries(doc, labels, window, stride)
                    if is_open is None or is_open(i, query.start, query.end, query.label)
                ]
                last = {query.label: query for query in block}
                if every and len(doc):
                    yield from (
                        (i, label, make_outside(len(doc))) for label in labels if label not in last
                    )
                for query in block:
                    queries.append(query)
                    places.append((i, last[query.label] is query))
                    n_tokens += len(query) / (len(last) if together else 1)
                    if n_tokens >= BUFFER_TOKENS and (query is block[-1] or not together):
                        yield from flush()
                        n_tokens = 0
        if queries:
            yield from flush()

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[Prediction]) -> None:
        """Write predictions to `doc.spans`, and to `doc.ents` with `set_ents`."""
        for doc, prediction in zip(docs, scores, strict=True):
            spans = [
                Span(doc, start, end, label=label) for start, end, label, _ in prediction.answers
            ]
            span_scores = [score for *_, score in prediction.answers]
            set_answers(doc, spans, prediction.queries, span_scores, key=self.key)
            if self.cfg["set_ents"]:
                doc.set_ents(choose_ents(spans, span_scores))

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Learn from the queries that the sampler picks of the examples' references."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "MetaIE.update")
        set_dropout_rate(self.model, drop)
        queries = self._sample_queries(examples)
        if not queries:
            return losses
        probs, backprop = self.model.begin_update(queries)
        loss, d_logits = self.get_loss(examples, (queries, probs))
        backprop(d_logits)
        if sgd:  # spaCy's training loop passes False, and updates once a step
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses

    def _sample_queries(self, examples: Sequence[Example]) -> list[Query]:
        answers = [get_answers(eg.reference, self.key) for eg in examples]
        return [
            query
            for eg, labels in zip(examples, self.sampler(answers), strict=True)
            for query in make_queries(eg.predicted, labels, self.cfg["window"], self.cfg["stride"])
        ]

    def get_loss(
        self,
        examples: Iterable[Example],
        scores: tuple[Sequence[Query], Sequence[Floats2d]],
    ) -> tuple[float, list[Floats2d]]:
        """The loss and its gradient for queries of the examples' predicted docs.

        scores: the queries, and the tag probabilities that the model gave them.
        """
        queries, probs = scores
        by_doc = {id(eg.predicted): eg for eg in examples}
        spans = {key: self._get_aligned_answers(eg) for key, eg in by_doc.items()}
        soft = {key: get_soft_tags(eg, self.key) for key, eg in by_doc.items()}
        gold = [
            soft[id(query.doc)][query.label][query.start : query.end]
            if query.label in soft[id(query.doc)]
            else make_tags(query, spans[id(query.doc)].get(query.label, ()))
            for query in queries
        ]
        return self.loss(probs, gold)

    def _get_aligned_answers(self, example: Example) -> dict[str, list[tuple[int, int]]]:
        """The gold answers by label, as tokens of the predicted doc."""
        group = list(example.reference.spans.get(self.key, []))
        aligned, _ = drop_overlapping(example.get_aligned_spans_y2x(group, allow_overlap=True))
        answers: dict[str, list[tuple[int, int]]] = {}
        for span in aligned:
            answers.setdefault(span.label_, []).append((span.start, span.end))
        return answers

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: list[str] | None = None,
        init_model: str | None = None,
    ) -> None:
        """Check the examples, choose the labels, and load the weights to start from.

        The labels are, in this order: `labels`; those of the config; the examples'
        queries if these are a closed set, the same for every doc. Open labels, of
        which every doc has its own, are never made the component's.

        init_model: a trained pipeline, a package or a path, whose `metaie` component
            gives the weights: all of them, or, to a tagger of another architecture, those of
            the transformer. Without one they are the base transformer's.
        """
        validate_get_examples(get_examples, "MetaIE.initialize")
        survey = self._survey(get_examples())
        if labels is not None:
            self.labels = labels
        elif not self.labels and survey.closed_labels:
            self.labels = survey.closed_labels
        if init_model:
            self._copy_weights(init_model)
        self.model.initialize()

    def _survey(self, examples: Iterable[Example]) -> "Survey":
        """Read all examples once; warn of what cannot be learnt from them."""
        survey = Survey()
        for eg in examples:
            survey.docs += 1
            if not has_queries(eg.reference, self.key):
                continue
            survey.annotated += 1
            queries = get_queries(eg.reference, self.key)
            if survey.closed_labels is None:
                survey.closed_labels = queries
            elif set(queries) != set(survey.closed_labels):
                survey.closed_labels = []
            spans = list(eg.reference.spans[self.key])
            _, dropped = drop_overlapping(spans)
            survey.spans += len(spans)
            survey.overlapping.update(span.label_ for span in dropped)
        if survey.docs and not survey.annotated:
            raise ValueError(
                f"None of the {survey.docs} examples has queries under doc.spans[{self.key!r}]. "
                "Make DocBins with `python -m metaie convert`, read them with the reader "
                "`metaie.Corpus.v1`, or set `spans_key` to the group that your docs have."
            )
        if survey.overlapping:
            worst = ", ".join(f"{label!r} ({n})" for label, n in survey.overlapping.most_common(3))
            logger.warning(
                "%d of %d spans overlap a longer one of the same label and can't be tagged: "
                "of these the longer is learnt. Most at: %s.",
                survey.overlapping.total(),
                survey.spans,
                worst,
            )
        return survey

    def _copy_weights(self, init_model: str) -> None:
        source = load_model(init_model, vocab=self.vocab)
        pipes = [pipe for _, pipe in source.pipeline if isinstance(pipe, MetaIE)]
        if not pipes:
            raise ValueError(
                f"The pipeline {init_model!r} has no metaie component to start from, "
                f"only {source.pipe_names}."
            )
        if pipes[0].model.name == self.model.name:
            self.model.from_bytes(pipes[0].model.to_bytes())
        else:
            logger.warning(
                "The pipeline %r has a tagger %r, and the config one %r: only the transformer is "
                "taken over, and the layers on top of it start anew.",
                init_model,
                pipes[0].model.name,
                self.model.name,
            )
            copy_transformer(pipes[0].model, self.model)


@dataclass
class Survey:
    """What `initialize` saw in the examples.

    closed_labels: the queries that all docs share; empty if they differ.
    overlapping: spans that cannot be tagged, by label.
    """

    docs: int = 0
    annotated: int = 0
    spans: int = 0
    closed_labels: list[str] | None = None
    overlapping: Counter[str] = field(default_factory=Counter)


def check_threshold(threshold: float) -> float:
    """Raise ValueError unless the threshold lies in [0, 1]."""
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"The threshold must lie between 0 and 1, not be {threshold!r}.")
    return float(threshold)


def get_soft_tags(example: Example, key: str) -> dict[str, Floats2d]:
    """What a teacher thinks of each query, if the reference has it and the tokens agree.

    Returns (tokens, 3) probabilities by label; see `metaie.soften`.
    """
    tags = get_tags(example.reference, key)
    if tags is None or len(example.predicted) != len(example.reference):
        return {}
    queries = get_queries(example.reference, key)
    return dict(zip(queries, tags.astype("float32"), strict=True))


def strip_space(
    doc: Doc, spans: Iterable[tuple[int, int, float]]
) -> Iterator[tuple[int, int, float]]:
    """Take white space off the ends of spans; what is nothing else is dropped."""
    for start, end, score in spans:
        while start < end and doc[start].is_space:
            start += 1
        while end > start and doc[end - 1].is_space:
            end -= 1
        if start < end:
            yield start, end, score
