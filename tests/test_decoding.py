import itertools

import numpy
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from metaie.decoding import (
    O_SHARE,
    choose_ents,
    choose_windows,
    decode_batch,
    decode_spans,
    find_best_tags,
    join_windows,
    make_tags,
    may_answer,
)
from metaie.queries import Query, cut_windows
from spacy.tokens import Doc, Span

NLP = spacy.blank("en")


def one_hot(tags: str) -> numpy.ndarray:
    """ "OBI" as certain probabilities."""
    return numpy.eye(3, dtype="float32")[["BIO".index(tag) for tag in tags]]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("", []),
        ("OOO", []),
        ("BIIO", [(0, 3)]),
        ("OBIBI", [(1, 3), (3, 5)]),
        ("BBB", [(0, 1), (1, 2), (2, 3)]),
        ("OIIO", []),  # no span begins with I
        ("IOB", [(2, 3)]),
    ],
)
def test_certain_tags_decode_to_their_spans(tags: str, spans: list[tuple[int, int]]) -> None:
    sure = [span for span in decode_spans(one_hot(tags)) if span[2] > 0.5]
    assert [(start, end) for start, end, _ in sure] == spans
    assert all(score == pytest.approx(1.0) for *_, score in sure)


probs = hnp.arrays(
    "float32", st.tuples(st.integers(0, 30), st.just(3)), elements=st.floats(0.015625, 1, width=32)
).map(lambda array: array / array.sum(axis=1, keepdims=True))


@given(probs)
def test_decoded_spans_are_ordered_and_disjoint(array: numpy.ndarray) -> None:
    at = 0
    for start, end, score in decode_spans(array):
        assert at <= start < end <= len(array)
        assert 0 < score <= 1 + 1e-6
        at = end


@given(probs.filter(lambda array: 0 < len(array) <= 6))
def test_the_tags_are_the_most_probable_legal_ones(array: numpy.ndarray) -> None:
    weights = numpy.array([1 - O_SHARE, 1 - O_SHARE, O_SHARE])

    def probability(tags: tuple[int, ...]) -> float:
        return float(numpy.prod([array[i, t] * weights[t] for i, t in enumerate(tags)]))

    legal = [
        tags
        for tags in itertools.product(range(3), repeat=len(array))
        if tags[0] != 1 and not any(a == 2 and b == 1 for a, b in itertools.pairwise(tags))
    ]
    best = max(map(probability, legal))
    tags = find_best_tags(array, numpy.array([len(array)]))
    assert probability(tuple(tags)) == pytest.approx(best)


@given(st.lists(probs, max_size=5))
def test_queries_decoded_together_do_not_touch(batch: list[numpy.ndarray]) -> None:
    assert decode_batch(batch) == [decode_spans(probs) for probs in batch]
    assert decode_batch([]) == []


def test_a_doubtful_token_does_not_cut_a_span() -> None:
    array = numpy.array([[0.9, 0.0, 0.1], [0.0, 0.45, 0.55], [0.05, 0.9, 0.05], [0, 0, 1]])
    ((start, end, score),) = decode_spans(array)
    assert (start, end) == (0, 3)
    assert score == pytest.approx((0.9 * 0.45 * 0.9) ** 0.25)


@given(probs, st.integers(1, 5), st.integers(1, 5))
def test_certain_absences_around_change_no_answer(
    array: numpy.ndarray, before: int, after: int
) -> None:
    wide = numpy.concatenate([one_hot("O" * before), array, one_hot("O" * after)])
    bare = numpy.concatenate([one_hot("O"), array, one_hot("O")])
    shift = before - 1
    assert decode_spans(wide) == [
        (s + shift, e + shift, score) for s, e, score in decode_spans(bare)
    ]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 6), max_size=8))
def test_no_answer_is_passed_over(seed: int, lengths: list[int]) -> None:
    rng = numpy.random.default_rng(seed)
    probs = [rng.dirichlet([0.3, 0.3, 1.5], size=n).astype("float32") for n in lengths]
    answered = may_answer(probs)
    assert len(answered) == len(probs)
    for own, may in zip(probs, answered, strict=True):
        assert may or not decode_spans(own)


def test_certain_absences_are_passed_over() -> None:
    nothing, something = numpy.eye(3)[[2, 2]], numpy.eye(3)[[2, 0]]
    assert may_answer([nothing, something, nothing]).tolist() == [False, True, False]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=6), st.integers(0, 3))
def test_spans_survive_tagging_and_decoding(gaps: list[tuple[int, int]], tail: int) -> None:
    spans, at = [], 0
    for gap, length in gaps:
        spans.append((at + gap, at + gap + length))
        at += gap + length
    doc = Doc(NLP.vocab, ["x"] * (at + tail))
    tags = make_tags(Query(doc, 0, len(doc), "A"), spans)
    decoded = decode_spans(tags)
    assert [(start, end) for start, end, _ in decoded] == spans


@given(st.integers(1, 300), st.integers(2, 40), st.data())
def test_tokens_are_read_where_they_have_most_context(
    n_tokens: int, window: int, data: st.DataObject
) -> None:
    windows = cut_windows(n_tokens, window, data.draw(st.integers(1, window)))
    chosen = choose_windows(windows, n_tokens)

    def context(token: int, start: int, end: int) -> int:
        left = token - start if start else n_tokens
        right = end - 1 - token if end < n_tokens else n_tokens
        return min(left, right)

    for token in range(n_tokens):
        start, end = windows[chosen[token]]
        assert start <= token < end
        assert context(token, start, end) == max(
            context(token, a, b) for a, b in windows if a <= token < b
        )


def test_a_span_across_the_edge_of_a_window_is_found_once() -> None:
    tags = one_hot("OOOOBIIIOOOO")
    windows = cut_windows(12, window=6, stride=4)
    cut = [tags[start:end].copy() for start, end in windows]
    cut[1][0] = one_hot("B")  # the second window starts within nothing it knows of
    joined = join_windows(windows, cut, 12)
    assert [(start, end) for start, end, _ in decode_spans(joined)] == [(4, 8)]


def test_tokens_that_no_window_holds_are_outside() -> None:
    tags = one_hot("BIOBIOBIOBIO")
    joined = join_windows([(3, 6), (6, 9)], [tags[3:6], tags[6:9]], 12)
    assert (joined == one_hot("OOOBIOBIOOOO")).all()
    assert (join_windows([(3, 6)], [tags[3:6]], 12) == one_hot("OOOBIOOOOOOO")).all()


def test_ents_are_the_best_spans_without_overlaps() -> None:
    doc = Doc(NLP.vocab, ["a", "b", "c", "d"])
    spans = [Span(doc, 0, 3, "X"), Span(doc, 1, 2, "Y"), Span(doc, 3, 4, "Z"), Span(doc, 1, 3, "W")]
    assert [s.label_ for s in choose_ents(spans, [0.6, 0.9, 0.5, 0.9])] == ["W", "Z"]
    assert choose_ents([], []) == []
