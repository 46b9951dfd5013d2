import numpy
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.diversity import choose_diverse, get_words, make_vectors

NLP = spacy.blank("en")
TEXTS = ["the cat sat", "THE CAT SAT", "the cat ran", "prices rose sharply today"]


def vectors(texts: list[str]) -> numpy.ndarray:
    return make_vectors([get_words(NLP(text)) for text in texts])


def test_texts_are_near_that_share_rare_words() -> None:
    similarity = (v := vectors(TEXTS)) @ v.T
    assert numpy.diag(similarity) == pytest.approx(1.0)
    assert similarity[0, 1] == pytest.approx(1.0)
    assert 0.3 < similarity[0, 2] < 0.9
    assert abs(similarity[0, 3]) < 0.1


def test_vectors_are_the_same_in_every_process_and_order() -> None:
    # Strings have the same hash everywhere; Python's own are salted.
    assert get_words(NLP("The cat"))[1] == NLP.vocab.strings["cat"] == 5439657043933447811
    assert vectors(TEXTS[::-1])[::-1] == pytest.approx(vectors(TEXTS))


def test_texts_without_words_have_no_direction() -> None:
    assert not vectors(["", "cat"])[0].any()
    assert vectors([]).shape[0] == 0


def test_equal_texts_are_chosen_last() -> None:
    assert choose_diverse(vectors(TEXTS), numpy.ones(4), 4) == [0, 3, 2, 1]


def test_weight_counts_against_distance() -> None:
    v = vectors(TEXTS)
    assert choose_diverse(v, numpy.array([0.1, 0.2, 0.9, 0.3]), 2) == [2, 3]
    assert choose_diverse(v, numpy.array([0.1, 0.9, 0.1, 0.01]), 2) == [1, 2]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), max_size=12), st.integers(0, 15))
def test_no_text_is_chosen_twice(texts: list[list[str]], n: int) -> None:
    v = vectors([" ".join(words) for words in texts])
    chosen = choose_diverse(v, numpy.ones(len(texts)), n)
    assert len(chosen) == len(set(chosen)) == min(n, len(texts))
