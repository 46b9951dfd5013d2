"""Train, dev and test: which passage goes where."""

from collections.abc import Sequence

from .texts import Passage

SPLITS = ("train", "dev", "test")
Shares = tuple[int, int, int]


def parse_split(split: str) -> Shares:
    """Read shares as "88/6/6". Raises ValueError unless they are three whole numbers."""
    parts = split.split("/")
    if len(parts) != len(SPLITS) or not all(p.isascii() and p.isdigit() for p in parts):
        raise ValueError(f"A split is three whole numbers, as 88/6/6, not {split!r}.")
    train, dev, test = map(int, parts)
    if not train:
        raise ValueError(f"The split {split!r} leaves nothing to train on.")
    return train, dev, test


def split_passages(passages: Sequence[Passage], shares: Shares) -> list[str]:
    """Assign every passage to a split; returns the splits' names in the passages' order.

    Stratified by genre, by systematic sampling: the passages are lined up by genre, then
    by the hash of their texts, and test takes one at each step of its share; so does dev,
    half a step apart. Every genre is so split as the whole is, to within one or two, and
    nothing but the set of texts and genres decides. What was cut from one document counts
    as one, and stays together.
    """
    genres = {passage.source: passage.genre for passage in reversed(passages)}
    total = sum(shares)
    _, dev, test = shares
    half_step = total // (2 * test) if test else 0

    def takes(share: int, place: int) -> bool:
        return place * share // total > (place - 1) * share // total

    names = dict.fromkeys(genres, "train")
    order = sorted(genres, key=lambda source: (genres[source], source))
    for place, source in enumerate(order, start=1):
        if takes(test, place):
            names[source] = "test"
        elif takes(dev, place + half_step):
            names[source] = "dev"
    return [names[passage.source] for passage in passages]


def split_by_hash(passage: Passage, shares: Shares) -> str:
    """The split of a passage, by the hash of its document alone: as good as at random.

    For streams, whose end nobody has seen. The shares come out as given on average.
    """
    place = int(passage.source[:16], 16) % sum(shares)
    train, dev, _ = shares
    return "train" if place < train else "dev" if place < train + dev else "test"
