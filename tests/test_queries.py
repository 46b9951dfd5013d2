from itertools import pairwise

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from metaie.queries import cut_windows, make_queries


@given(st.integers(0, 700), st.integers(1, 60), st.data())
def test_windows_cover_every_token_and_overlap(
    n_tokens: int, window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window))
    windows = cut_windows(n_tokens, window, stride)
    assert {i for start, end in windows for i in range(start, end)} == set(range(n_tokens))
    assert all(0 < end - start <= window for start, end in windows)
    assert all(b[0] - a[0] <= stride for a, b in pairwise(windows))
    if n_tokens > window:
        assert {end - start for start, end in windows} == {window}


@pytest.mark.parametrize(("window", "stride"), [(10, 0), (10, 11), (0, 0), (10, -1)])
def test_strides_that_skip_tokens_are_refused(window: int, stride: int) -> None:
    with pytest.raises(ValueError, match="stride"):
        cut_windows(100, window, stride)


def test_queries_ask_each_label_of_each_window() -> None:
    doc = spacy.blank("en")("one two three four five six")
    queries = list(make_queries(doc, ["A", "B"], window=4, stride=2))
    assert [(q.label, q.start, q.end) for q in queries] == [
        ("A", 0, 4), ("B", 0, 4), ("A", 2, 6), ("B", 2, 6),
    ]  # fmt: skip
    assert queries[2].span.text == "three four five six"
    assert list(make_queries(spacy.blank("en")(""), ["A"], 4, 2)) == []
