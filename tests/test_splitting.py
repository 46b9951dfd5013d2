from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metaie.splitting import SPLITS, parse_split, split_by_hash, split_passages
from metaie.texts import Passage


@pytest.mark.parametrize(
    "split", ["", "88/12", "0/50/50", "a/b/c", "88/-6/6", "1/1/1/1", "8.5/1/1"]
)
def test_bad_splits(split: str) -> None:
    with pytest.raises(ValueError, match="split"):
        parse_split(split)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.sampled_from([(88, 6, 6), (8, 1, 1), (1, 1, 1), (1, 0, 0), (3, 0, 1)]),
    st.randoms(),
)
def test_every_genre_is_split_as_the_whole_is(
    sizes: list[int], shares: tuple[int, int, int], random: object
) -> None:
    passages = [
        Passage(f"{g} {i}", f"genre {g}", "") for g, n in enumerate(sizes) for i in range(n)
    ]
    names = split_passages(passages, shares)
    for genre, size in enumerate(sizes):
        count = Counter(
            name
            for passage, name in zip(passages, names, strict=True)
            if passage.genre == f"genre {genre}"
        )
        for name, share in zip(SPLITS, shares, strict=True):
            assert abs(count[name] - size * share / sum(shares)) <= 2
    by_text = dict(zip(passages, names, strict=True))
    random.shuffle(passages)  # type: ignore[attr-defined]
    assert split_passages(passages, shares) == [by_text[passage] for passage in passages]


def test_the_pieces_of_a_document_stay_together() -> None:
    documents = [Passage(f"document {i}", "news", str(i)) for i in range(60)]
    pieces = [
        Passage(f"{document.text}, piece {n}", "news", f"{i}#{n}", document.key)
        for i, document in enumerate(documents)
        for n in range(3)
    ]
    shares = (2, 1, 1)
    whole = split_passages(documents, shares)
    assert split_passages(pieces, shares) == [name for name in whole for _ in range(3)]
    hashed = [split_by_hash(document, shares) for document in documents]
    assert [split_by_hash(piece, shares) for piece in pieces] == [
        name for name in hashed for _ in range(3)
    ]


@pytest.mark.parametrize("shares", [(88, 6, 6), (1, 1, 1), (1, 0, 0), (3, 0, 1)])
def test_a_stream_is_split_about_as_asked(shares: tuple[int, int, int]) -> None:
    passages = [Passage(f"text {i}", "", "") for i in range(3000)]
    count = Counter(split_by_hash(passage, shares) for passage in passages)
    for name, share in zip(SPLITS, shares, strict=True):
        assert abs(count[name] / 3000 - share / sum(shares)) < 0.04
        assert bool(count[name]) == bool(share)
