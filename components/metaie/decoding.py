"""From tag probabilities to spans.

Every function works on plain arrays whose columns are the tags B, I and O, so
that a tagger, a loss and the component agree on them.
"""

from collections.abc import Sequence
from typing import cast

import numpy
from spacy.tokens import Span
from thinc.types import Floats2d

TAGS = ("B", "I", "O")
B, I, O = range(len(TAGS))  # noqa: E741


def choose_windows(windows: Sequence[tuple[int, int]], n_tokens: int) -> numpy.ndarray:
    """For every token, the window in which it lies farthest from an edge.

    The edges of the text are none: there is nothing beyond them that a window
    could have missed.

    windows: [(start, end), ...] that together cover the `n_tokens` tokens.
    Returns an int array of shape (n_tokens,).
    """
    chosen = numpy.zeros(n_tokens, dtype="int64")
    best = numpy.full(n_tokens, -1, dtype="int64")
    for i, (start, end) in enumerate(windows):
        tokens = numpy.arange(start, end)
        left = tokens - start if start > 0 else n_tokens
        right = end - 1 - tokens if end < n_tokens else n_tokens
        context = numpy.minimum(left, right)
        better = context > best[start:end]
        best[start:end][better] = context[better] if context.ndim else context
        chosen[start:end][better] = i
    return chosen


def join_windows(
    windows: Sequence[tuple[int, int]], probs: Sequence[Floats2d], n_tokens: int
) -> Floats2d:
    """Join the answers of overlapping windows, so that each token is read once.

    probs: one (end - start, 3) array a window. Returns (n_tokens, 3).
    """
    if len(windows) == 1:
        return probs[0]
    chosen = choose_windows(windows, n_tokens)
    joined = numpy.empty((n_tokens, len(TAGS)), dtype="float32")
    for i, ((start, end), window_probs) in enumerate(zip(windows, probs, strict=True)):
        mine = chosen[start:end] == i
        joined[start:end][mine] = window_probs[mine]
    return cast(Floats2d, joined)


def decode_spans(probs: Floats2d, threshold: float) -> list[tuple[int, int, float]]:
    """Read the spans off the tag probabilities of one query.

    A token is inside an answer if 1 - P(O) reaches the threshold. A run of such
    tokens is one span, cut before each token that is rather B than I. A span's
    score is the mean of 1 - P(O) over its tokens, and so at least the threshold.

    probs: (n_tokens, 3). Returns [(start, end, score), ...], without overlaps.
    """
    if not len(probs):
        return []
    inside = 1.0 - probs[:, O]
    kept = inside >= threshold
    before = numpy.concatenate(([False], kept[:-1]))
    starts = numpy.flatnonzero(kept & (~before | (probs[:, B] > probs[:, I])))
    if not len(starts):
        return []
    # A span ends where the next one starts or where its run ends.
    ends = numpy.flatnonzero(kept & ~numpy.concatenate((kept[1:], [False]))) + 1
    ends = numpy.minimum(
        ends[numpy.searchsorted(ends, starts, side="right")],
        numpy.concatenate((starts[1:], [len(probs)])),
    )
    sums = numpy.concatenate(([0.0], numpy.cumsum(inside, dtype="float64")))
    scores = (sums[ends] - sums[starts]) / (ends - starts)
    return [
        (int(start), int(end), float(score))
        for start, end, score in zip(starts, ends, scores, strict=True)
    ]


def choose_ents(spans: Sequence[Span], scores: Sequence[float]) -> list[Span]:
    """The best spans that do not overlap: by score, then by length, then the earlier."""
    order = sorted(
        range(len(spans)),
        key=lambda i: (-scores[i], spans[i].start - spans[i].end, spans[i].start),
    )
    taken: set[int] = set()
    chosen = []
    for i in order:
        tokens = range(spans[i].start, spans[i].end)
        if taken.isdisjoint(tokens):
            taken.update(tokens)
            chosen.append(spans[i])
    return sorted(chosen, key=lambda span: span.start)
