"""Texts that differ from each other: vectors of their words, and a greedy choice."""

from collections.abc import Sequence

import numpy
from spacy.attrs import LOWER
from spacy.tokens import Doc
from thinc.types import Floats2d

# Of a vector. Words that share a dimension cancel out as often as they add up.
WIDTH = 512


def get_words(doc: Doc) -> numpy.ndarray:
    """The hashes of the doc's words in lower case, of shape (tokens,)."""
    return doc.to_array([LOWER]).reshape(-1)


def make_vectors(words: Sequence[numpy.ndarray]) -> Floats2d:
    """TF-IDF vectors of length 1, of shape (texts, 512), from the texts' words.

    Words are hashed into the dimensions with a sign (Weinberger et al., 2009, arXiv
    0902.2206), so no vocabulary is kept. They serve every tagger alike, and cost no pass
    through a transformer.
    """
    counted = [numpy.unique(own, return_counts=True) for own in words]
    known, frequency = numpy.unique(
        numpy.concatenate([own for own, _ in counted] or [numpy.zeros(0, "uint64")]),
        return_counts=True,
    )
    rarity = numpy.log((1.0 + len(words)) / (1.0 + frequency)) + 1.0
    vectors = numpy.zeros((len(words), WIDTH), dtype="float32")
    for vector, (own, counts) in zip(vectors, counted, strict=True):
        values = (1.0 + numpy.log(counts)) * rarity[numpy.searchsorted(known, own)]
        signs = numpy.where(own >> numpy.uint64(63), -1.0, 1.0)
        numpy.add.at(vector, (own % numpy.uint64(WIDTH)).astype("int64"), values * signs)
    norms = numpy.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / numpy.maximum(norms, 1e-9)


def choose_diverse(vectors: Floats2d, weights: numpy.ndarray, n: int) -> list[int]:
    """Choose texts one by one, each time the one with the most weight times distance.

    The distance is that to the nearest chosen before, 1 less the cosine. With equal weights
    this is the farthest-first traversal for k-center (Gonzalez, 1985; for active learning,
    Sener and Savarese, 2018, arXiv 1708.00489). The first is the one with the most weight;
    of equal ones the earlier. Returns the numbers of at most `n` texts, in the order chosen.
    """
    chosen: list[int] = []
    distance = numpy.ones(len(vectors), dtype="float32")
    left = numpy.ones(len(vectors), dtype=bool)
    while len(chosen) < min(n, len(vectors)):
        best = int(numpy.where(left, weights * distance, -1.0).argmax())
        chosen.append(best)
        left[best] = False
        numpy.minimum(distance, 1.0 - vectors @ vectors[best], out=distance)
        numpy.maximum(distance, 0.0, out=distance)
    return chosen
