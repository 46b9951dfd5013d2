from collections import Counter
from collections.abc import Callable

import numpy
import pytest
import spacy
from metaie.queries import Query
from metaie.routing import LabelRouter, choose_best, create_label_router
from spacy.language import Language
from spacy.util import load_model_from_config
from thinc.api import Config, Model

MakeNlp = Callable[..., Language]
LABELS = ["Person", "Actor", "Judge", "City", "Reason for the delay"]
TEXT = "Ada Lovelace met Charles Babbage in London. " * 4


@pytest.fixture
def nlp(make_nlp: MakeNlp) -> Language:
    """An untrained pipeline that answers much, in windows."""
    return make_nlp(labels=LABELS, threshold=0.2, window=10, stride=8)


@pytest.fixture
def asked(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> list[Query]:
    """The queries that reach the tagger, as they come."""
    seen: list[Query] = []
    model = nlp.get_pipe("metaie").model
    forward = model._func

    def watch(model: Model, queries: list[Query], is_train: bool) -> object:
        seen.extend(queries)
        return forward(model, queries, is_train)

    monkeypatch.setattr(model, "_func", watch)
    return seen


def add_filter(nlp: Language, make_nlp: MakeNlp) -> None:
    """Another metaie component, disabled, that ranks labels."""
    fast = make_nlp(architecture="LateFusion", window=10, stride=8)
    nlp.add_pipe("metaie", name="fast", source=fast)
    nlp.disable_pipe("fast")


def read_spans(nlp: Language) -> list[tuple[int, int, str]]:
    doc = nlp(TEXT)
    return [(span.start, span.end, span.label_) for span in doc.spans["metaie"]]


def route(nlp: Language, **settings: object) -> None:
    router = create_label_router(**settings)  # type: ignore[arg-type]
    router.bind(nlp)
    nlp.get_pipe("metaie").router = router


def test_asks_only_the_best_labels_of_each_window(
    nlp: Language, make_nlp: MakeNlp, asked: list[Query]
) -> None:
    add_filter(nlp, make_nlp)
    route(nlp, top_k=2, component="fast")
    doc = nlp(TEXT)
    assert doc.spans["metaie"].attrs["queries"] == LABELS
    per_window = Counter((query.start, query.end) for query in asked)
    assert set(per_window.values()) == {2}
    assert min(per_window)[0] == 0
    assert max(per_window)[1] == len(doc)
    ranked: dict[tuple[int, int], list[tuple[float, str]]] = {}
    for _, label, probs in nlp.get_pipe("fast").predict_tags([doc], [LABELS]):
        for start, end in per_window:
            ranked.setdefault((start, end), []).append((1 - probs[start:end, 2].min(), label))
    for window, own in ranked.items():
        best = {label for _, label in sorted(own, reverse=True)[:2]}
        assert best == {q.label for q in asked if (q.start, q.end) == window}


def test_finds_the_same_where_all_labels_are_let_through(nlp: Language, make_nlp: MakeNlp) -> None:
    before = read_spans(nlp)
    assert before
    add_filter(nlp, make_nlp)
    route(nlp, top_k=len(LABELS), component="fast")
    assert read_spans(nlp) == before


def test_what_is_not_asked_has_no_answer(nlp: Language, make_nlp: MakeNlp) -> None:
    before = read_spans(nlp)
    add_filter(nlp, make_nlp)
    route(nlp, top_k=1, component="fast")
    routed = read_spans(nlp)
    assert routed
    assert len(routed) < len(before)


def test_asks_children_only_where_a_parent_has_an_answer(nlp: Language, asked: list[Query]) -> None:
    route(nlp, hierarchy={"Person": ["Actor", "Judge"]})
    doc = nlp(TEXT)
    people = [span for span in doc.spans["metaie"] if span.label_ == "Person"]
    windows = {(q.start, q.end) for q in asked if q.label == "Person"}
    open_windows = {w for w in windows if any(p.start < w[1] and p.end > w[0] for p in people)}
    assert {(q.start, q.end) for q in asked if q.label == "City"} == windows
    for child in ("Actor", "Judge"):
        assert {(q.start, q.end) for q in asked if q.label == child} == open_windows


def test_asks_no_child_of_a_parent_without_answers(nlp: Language, asked: list[Query]) -> None:
    route(nlp, hierarchy={"Person": ["Actor", "Judge"], "Actor": ["Film actor"]})
    nlp.get_pipe("metaie").threshold = 1.0
    nlp.get_pipe("metaie").labels = [*LABELS, "Film actor"]
    nlp(TEXT)
    assert {query.label for query in asked} == {"Person", "City", "Reason for the delay"}


def test_asks_a_child_whose_parent_is_not_asked(nlp: Language, asked: list[Query]) -> None:
    route(nlp, hierarchy={"Person": ["Actor"]})
    nlp.get_pipe("metaie").labels = ["Actor"]
    nlp(TEXT)
    assert {query.label for query in asked} == {"Actor"}


@pytest.mark.parametrize("text", ["", " ", "Ada"])
def test_short_texts(nlp: Language, make_nlp: MakeNlp, text: str) -> None:
    add_filter(nlp, make_nlp)
    route(nlp, top_k=2, component="fast", hierarchy={"Person": ["Actor"]})
    assert nlp(text).spans["metaie"].attrs["queries"] == LABELS


def test_is_set_in_the_config_and_saved(nlp: Language, make_nlp: MakeNlp, tmp_path: object) -> None:
    add_filter(nlp, make_nlp)
    config = Config(nlp.config)
    config["components"]["metaie"]["router"] = {
        "@misc": "metaie.LabelRouter.v1",
        "top_k": 2,
        "component": "fast",
        "hierarchy": {"Person": ["Actor", "Judge"]},
    }
    routed = load_model_from_config(config)
    routed.from_bytes(nlp.to_bytes(exclude=["config"]))
    assert isinstance(routed.get_pipe("metaie").router, LabelRouter)
    expected = read_spans(routed)
    routed.to_disk(tmp_path)  # type: ignore[arg-type]
    assert read_spans(spacy.load(tmp_path)) == expected
    assert [
        [(s.start, s.end, s.label_) for s in doc.spans["metaie"]]
        for doc in routed.pipe([TEXT] * 2, n_process=2)
    ] == [expected] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": -1, "component": "fast"}, "not -1"),
        ({"top_k": 3}, "no component ranks"),
        ({"hierarchy": {"Person": ["Actor"], "Actor": ["Person"]}}, "circle: "),
        ({"hierarchy": {"Person": ["Person"]}}, "Person > Person"),
        ({"hierarchy": {"Person": [" "]}}, "empty"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_label_router(**settings)  # type: ignore[arg-type]


def test_a_missing_component_is_named(nlp: Language) -> None:
    route(nlp, top_k=2, component="quick")
    with pytest.raises(ValueError, match="'quick' is not in the pipeline"):
        nlp(TEXT)
    nlp.add_pipe("sentencizer", name="quick")
    with pytest.raises(ValueError, match="is a Sentencizer"):
        nlp(TEXT)


def test_of_equal_labels_the_first_is_chosen() -> None:
    assert choose_best([(0.1, "a"), (0.5, "b"), (0.5, "c"), (0.5, "d")], 2) == {"b", "c"}
    assert choose_best([(numpy.float32(0.1), "a")], 5) == {"a"}
