from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.deduplication import ExactDuplicates, NearDuplicates, make_shingles
from metaie.texts import Passage, read_passages

TEXTS = Path(__file__).parent.parent / "corpus" / "texts"


def keep(texts: list[str], threshold: float) -> list[str]:
    near = NearDuplicates(threshold)
    return [text for text in texts if near.add(text)]


@given(st.lists(st.text(max_size=3)))
def test_equal_texts_are_known_again(texts: list[str]) -> None:
    exact = ExactDuplicates()
    keys = [Passage(text, "", "").key for text in texts]
    assert [key for key in keys if exact.add(key)] == list(dict.fromkeys(keys))


@settings(deadline=None)
@given(st.lists(st.text(max_size=5)))
def test_of_equal_texts_one_is_kept_whatever_they_hold(texts: list[str]) -> None:
    kept = keep(texts, 0.9)
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(texts)
    assert kept[:1] == texts[:1]


def test_nearly_equal_texts_are_known_again() -> None:
    words = [f"word{i}" for i in range(200)]
    text = " ".join(words)
    changed = " ".join([*words[:100], "changed", *words[101:]])  # 3 shingles of 198: J = 0.97
    half = " ".join([*words[:100], *(f"new{i}" for i in range(100))])  # J = 0.33
    assert keep([text, changed, half, text.upper()], 0.9) == [text, half]
    assert keep([text, half], 0.5) == [text, half]
    assert keep([text, changed, half], 0.2) == [text]


def test_the_shipped_texts_are_all_different() -> None:
    texts = [passage.text for passage in read_passages([TEXTS / "news.jsonl"])]
    assert keep(texts, 0.8) == texts


def test_shingles() -> None:
    assert list(make_shingles("Ada met, BOB. Twice")) == [
        "ada met ,",
        "met , bob",
        ", bob .",
        "bob . twice",
    ]
    assert list(make_shingles("Ada met")) == ["ada met"]
    assert list(make_shingles("?!")) == ["? !"]
    assert list(make_shingles(" ")) == [" "]
    # Marks stay with their letters, composed or not.
    assert list(make_shingles("हिन्दी में cafe\u0301")) == ["हिन्दी में cafe\u0301"]
    # Languages without spaces have a word a clause.
    assert list(make_shingles("日本語のテキスト。")) == ["日本語のテキスト 。"]


@pytest.mark.parametrize(
    ("one", "other"),
    [("x = -5", "x = 5"), ("a < b", "a > b"), ("😀", "😡"), ("दिन की बात", "दीन का बोत")],
)
def test_signs_and_marks_make_a_difference(one: str, other: str) -> None:
    assert keep([one, other, one], 0.5) == [one, other]


@pytest.mark.parametrize("threshold", [-0.1, 0.99, 2.0])
def test_bad_thresholds(threshold: float) -> None:
    with pytest.raises(ValueError, match=str(threshold)):
        NearDuplicates(threshold)
