from pathlib import Path

import numpy
import pytest
import spacy
from conftest import SENTENCES
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.queries import Query
from metaie.tagger.wordpieces import (
    EncodedWindow,
    PairEncoder,
    batch_by_wordpieces,
    cut_window,
    encode_labels,
    encode_windows,
)
from spacy.tokens import Doc
from transformers import AutoTokenizer, PreTrainedTokenizerFast

NLP = spacy.blank("en")


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny_base)


def test_tokens_align_to_their_first_wordpieces(tokenizer: PreTrainedTokenizerFast) -> None:
    doc = NLP("Lovelace didn't  meet\u200b Babbage.")
    (window,) = encode_windows(tokenizer, [(doc, 0, len(doc))])
    offsets = tokenizer(doc.text, add_special_tokens=False, return_offsets_mapping=True)
    for token, first in zip(doc, window.firsts, strict=True):
        if token.is_space:
            assert first == -1
        else:
            start, end = offsets["offset_mapping"][first]
            assert start <= token.idx < end or start == token.idx


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from([*"aé🙂\u200b\nא", "word", "Lovelace", "n't"]), min_size=1, max_size=20
    )
)
def test_overlapping_windows_align_as_alone(words: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(_BASE[0])
    doc = Doc(NLP.vocab, words)
    half = len(doc) // 2
    parts = [(doc, 0, len(doc)), (doc, half, len(doc))]
    together = encode_windows(tokenizer, parts)
    for part, window in zip(parts, together, strict=True):
        (alone,) = encode_windows(tokenizer, [part])
        assert window.firsts.tolist() == alone.firsts.tolist()
        own = window.firsts[window.firsts >= 0]
        assert (numpy.diff(own) >= 0).all() and (own < max(len(window.ids), 1)).all()


_BASE: list[Path] = []


@pytest.fixture(autouse=True, scope="module")
def remember_base(tiny_base: Path) -> None:
    _BASE[:] = [tiny_base]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(4, 12))
def test_cut_windows_fit_and_cover_every_token(sizes: list[int], room: int) -> None:
    begins = numpy.cumsum([0, *sizes])
    firsts = numpy.where(numpy.array(sizes) > 0, begins[:-1], -1)
    window = EncodedWindow(numpy.arange(begins[-1]), firsts)
    cuts = cut_window(window, room)
    assert {t for start, end, *_ in cuts for t in range(start, end)} == set(range(len(sizes)))
    for start, end, first, last in cuts:
        assert last - first <= room
        assert all(first <= f < last for f in firsts[start:end] if f >= 0)


def test_every_token_with_wordpieces_is_read_once(tokenizer: PreTrainedTokenizerFast) -> None:
    doc = NLP(" ".join(SENTENCES) + " \n ")
    queries = [
        Query(doc, 0, len(doc), "Person"),
        Query(doc, 3, 9, "City"),
        Query(doc, 4, 4, "City"),
    ]
    encoder = PairEncoder(tokenizer, max_length=40)
    sequences = list(encoder.encode(queries))
    assert all(len(sequence) <= 40 for sequence in sequences)
    rows = numpy.concatenate([sequence.rows for sequence in sequences])
    read = [i for i, t in enumerate([*doc, *doc[3:9]]) if not t.is_space]
    assert sorted(rows.tolist()) == read


def test_a_sequence_is_what_the_tokenizer_makes_of_the_pair(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    doc = NLP(SENTENCES[0])
    encoder = PairEncoder(tokenizer, max_length=128)
    (sequence,) = encoder.encode([Query(doc, 0, len(doc), "Reason for the delay")])
    expected = tokenizer("Reason for the delay", doc.text)
    assert sequence.ids.tolist() == expected["input_ids"]
    assert sequence.types.tolist() == expected["token_type_ids"]
    first = tokenizer.convert_ids_to_tokens(sequence.ids[sequence.positions].tolist())
    assert first[0].startswith("a") and len(first) == len(doc)


def test_a_token_longer_than_a_sequence_is_read(tokenizer: PreTrainedTokenizerFast) -> None:
    doc = Doc(NLP.vocab, ["a", "b" * 300, "c"])
    encoder = PairEncoder(tokenizer, max_length=20)
    rows = numpy.concatenate([s.rows for s in encoder.encode([Query(doc, 0, 3, "City")])])
    assert sorted(rows.tolist()) == [0, 1, 2]


def test_labels_without_or_with_too_many_wordpieces_are_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(ValueError, match="no wordpieces"):
        encode_labels(tokenizer, ["Person", "\u200b"], 10)
    with pytest.raises(ValueError, match="more than the 10"):
        encode_labels(tokenizer, ["person " * 20], 10)
    assert encode_labels(tokenizer, [], 10) == []


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 100))
def test_batches_hold_every_sequence_and_keep_the_limit(lengths: list[int], limit: int) -> None:
    batches = batch_by_wordpieces([range(n) for n in lengths], limit)  # type: ignore[misc]
    assert sorted(len(s) for batch in batches for s in batch) == sorted(lengths)
    assert all(len(b) == 1 or max(map(len, b)) * len(b) <= limit for b in batches)
