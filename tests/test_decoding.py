import numpy
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from metaie.decoding import TAGS, choose_ents, choose_windows, decode_spans, join_windows
from metaie.pipe import make_tags
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
        ("OIIO", [(1, 3)]),
        ("IOB", [(0, 1), (2, 3)]),
    ],
)
def test_certain_tags_decode_to_their_spans(tags: str, spans: list[tuple[int, int]]) -> None:
    decoded = decode_spans(one_hot(tags), 0.5)
    assert [(start, end) for start, end, _ in decoded] == spans
    assert all(score == 1.0 for *_, score in decoded)


probs = hnp.arrays(
    "float32", st.tuples(st.integers(0, 30), st.just(3)), elements=st.floats(0.015625, 1, width=32)
).map(lambda array: array / array.sum(axis=1, keepdims=True))


@given(probs, st.floats(0.05, 1))
def test_decoded_spans_are_ordered_disjoint_and_reach_the_threshold(
    array: numpy.ndarray, threshold: float
) -> None:
    spans = decode_spans(array, threshold)
    ends = [0]
    for start, end, score in spans:
        assert ends[-1] <= start < end <= len(array)
        assert threshold - 1e-6 <= score <= 1 + 1e-6
        ends.append(end)
    inside = {i for start, end, _ in spans for i in range(start, end)}
    assert inside == set(numpy.flatnonzero(1 - array[:, TAGS.index("O")] >= threshold))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=6), st.integers(0, 3))
def test_spans_survive_tagging_and_decoding(gaps: list[tuple[int, int]], tail: int) -> None:
    spans, at = [], 0
    for gap, length in gaps:
        spans.append((at + gap, at + gap + length))
        at += gap + length
    doc = Doc(NLP.vocab, ["x"] * (at + tail))
    tags = make_tags(Query(doc, 0, len(doc), "A"), spans)
    decoded = decode_spans(numpy.eye(3, dtype="float32")[tags], 0.5)
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
    assert [(start, end) for start, end, _ in decode_spans(joined, 0.5)] == [(4, 8)]


def test_ents_are_the_best_spans_without_overlaps() -> None:
    doc = Doc(NLP.vocab, ["a", "b", "c", "d"])
    spans = [Span(doc, 0, 3, "X"), Span(doc, 1, 2, "Y"), Span(doc, 3, 4, "Z"), Span(doc, 1, 3, "W")]
    assert [s.label_ for s in choose_ents(spans, [0.6, 0.9, 0.5, 0.9])] == ["W", "Z"]
    assert choose_ents([], []) == []
