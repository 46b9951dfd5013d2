"""From tag probabilities to spans, and back.

Every function works on plain arrays whose columns are the tags B, I and O, so
that a tagger, a loss and the component agree on them.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import numpy
from spacy.tokens import Span
from thinc.types import Floats2d

from .queries import Query

TAGS = ("B", "I", "O")
B, I, O = range(len(TAGS))  # noqa: E741

# What O's probability counts against that of B and I when spans are read off, in [0, 1]; 0.5 is
# even. Chosen on the dev split; with like scores, 0.2 to 0.4 differ there by 0.5 F1 at most.
O_SHARE = 0.3
EPSILON = 1e-9


def choose_windows(windows: Sequence[tuple[int, int]], n_tokens: int) -> numpy.ndarray:
    """For every token, the window in which it lies farthest from an edge.

    The edges of the text are none: there is nothing beyond them that a window
    could have missed.

    windows: [(start, end), ...] of the `n_tokens` tokens.
    Returns an int array of shape (n_tokens,), 0 for tokens that no window holds.
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

    probs: one (end - start, 3) array a window. Returns (n_tokens, 3); tokens that no window
    holds are O.
    """
    if len(windows) == 1 and len(probs[0]) == n_tokens:
        return probs[0]
    chosen = choose_windows(windows, n_tokens)
    joined = make_outside(n_tokens)
    for i, ((start, end), window_probs) in enumerate(zip(windows, probs, strict=True)):
        mine = chosen[start:end] == i
        joined[start:end][mine] = window_probs[mine]
    return joined


def make_outside(n_tokens: int) -> Floats2d:
    """The tag probabilities (n_tokens, 3) of tokens that are all O."""
    probs = numpy.zeros((n_tokens, len(TAGS)), dtype="float32")
    probs[:, O] = 1.0
    return cast(Floats2d, probs)


def make_tags(query: Query, spans: Iterable[tuple[int, int]]) -> Floats2d:
    """The gold tags of a query's window, of shape (tokens, 3): 1 for a token's tag.

    spans: (start, end) tokens of the doc. What lies outside of the window is cut off;
    a span that began before it continues with I.
    """
    tags = numpy.full(len(query), O, dtype="int64")
    for start, end in spans:
        tags[max(start - query.start, 0) : max(end - query.start, 0)] = I
        if query.start <= start < query.end:
            tags[start - query.start] = B
    return cast(Floats2d, numpy.eye(len(TAGS), dtype="float32")[tags])


def may_answer(probs: Sequence[Floats2d]) -> numpy.ndarray:
    """Which queries may have an answer: those with a token that is rather not O.

    Where O is the best tag of every token, it is the best sequence as well, and
    `decode_spans` finds nothing. Most labels of most texts can be passed over so.

    probs: one (tokens, 3) array a query, none of them empty. Returns one bool a query.
    """
    if not len(probs):
        return numpy.zeros(0, dtype=bool)
    flat = numpy.concatenate(list(probs))
    likely = flat[:, [B, I]].max(axis=1) * (1.0 - O_SHARE) >= flat[:, O] * O_SHARE
    begins = numpy.cumsum([0, *(len(p) for p in probs[:-1])])
    return numpy.logical_or.reduceat(likely, begins)


def decode_spans(probs: Floats2d) -> list[tuple[int, int, float]]:
    """Read the spans off the tag probabilities of one query; see `decode_batch`."""
    return decode_batch([probs])[0]


def decode_batch(probs: Sequence[Floats2d]) -> list[list[tuple[int, int, float]]]:
    """Read the spans off the tag probabilities of queries.

    They are those of the most probable sequence of tags in which an I follows only a B
    or an I (Viterbi, 1967). Tag by tag, one doubtful token would cut a span in two. O is
    held back by `O_SHARE`, so that what is rather not an answer is a span as well, and a
    threshold has something to choose from.

    A span's score is the geometric mean of the probabilities of its tags and of the tag
    after it not to be I: how sure the tagger is, a tag, of this span and no other.

    probs: one (tokens, 3) array a query. Returns [(start, end, score), ...] for each query,
    from left to right, without overlaps.
    """
    spans: list[list[tuple[int, int, float]]] = [[] for _ in probs]
    # Of a long text with few windows asked, hardly more than these is read.
    firsts, parts = zip(*map(cut_outside, probs), strict=True) if len(probs) else ((), ())
    ends = numpy.cumsum([len(part) for part in parts], dtype="int64")
    if not len(parts) or not ends[-1]:
        return spans
    flat = cast(Floats2d, numpy.concatenate(parts))
    logs = take_log(flat)
    tags = find_best_tags(flat, ends)
    starts = numpy.flatnonzero(tags == B)
    owners = numpy.searchsorted(ends, starts, side="right")
    for start, i in zip(starts.tolist(), owners.tolist(), strict=True):
        begin, stop = int(ends[i]) - len(parts[i]), int(ends[i])
        end = start + 1
        while end < stop and tags[end] == I:
            end += 1
        total = logs[start, B] + logs[start + 1 : end, I].sum()
        if end < stop:
            total += numpy.log(max(1.0 - float(flat[end, I]), EPSILON))
        score = numpy.exp(total / (end - start + (end < stop)))
        first = firsts[i] - begin
        spans[i].append((first + start, first + end, float(score)))
    return spans


def cut_outside(probs: Floats2d) -> tuple[int, Floats2d]:
    """Cut tokens that are O for certain off the ends, but for one that a span may begin or end at.

    Returns (how many are cut off in front, what is left).
    """
    tokens = numpy.flatnonzero(probs[:, O] < 1.0)
    if not len(tokens):
        return 0, probs[:0]
    start = max(int(tokens[0]) - 1, 0)
    return start, probs[start : int(tokens[-1]) + 2]


def take_log(probs: Floats2d) -> numpy.ndarray:
    """The logarithm of probabilities, none of them taken as 0."""
    return numpy.log(numpy.maximum(numpy.asarray(probs), EPSILON))


def find_best_tags(probs: Floats2d, ends: numpy.ndarray) -> numpy.ndarray:
    """The most probable tags of queries without an I that follows an O or comes first.

    Most tokens are O whatever the others are, which is seen at once: if O gains more over a
    token's B and I than the next token may lose by being B instead of I. What lies between
    such tokens is short.

    probs: (tokens, 3), the queries' one after the other. ends: where each of them ends.
    Returns an int array of shape (tokens,).
    """
    prior = numpy.log([1.0 - O_SHARE, 1.0 - O_SHARE, O_SHARE])
    logs = take_log(probs) + prior
    loss = numpy.zeros(len(logs))
    loss[:-1] = numpy.maximum(logs[1:, I] - logs[1:, B], 0.0)
    loss[ends[ends > 0] - 1] = 0.0
    is_doubtful = logs[:, O] - logs[:, [B, I]].max(axis=1) <= loss
    tags = numpy.full(len(logs), O, dtype="int64")
    doubtful = numpy.flatnonzero(is_doubtful)
    if len(doubtful):
        is_new = numpy.diff(doubtful) > 1
        is_new |= numpy.isin(doubtful[1:], ends)
        for run in numpy.split(doubtful, numpy.flatnonzero(is_new) + 1):
            tags[run] = search_tags(logs[run])
    return tags


def search_tags(logs: numpy.ndarray) -> list[int]:
    """The best tags of consecutive tokens by Viterbi's algorithm.

    logs: (tokens, 3), what each tag is worth. The first tag is no I.
    """
    (best_b, _, best_o), *others = logs.tolist()
    best_i = -numpy.inf
    came_from: list[tuple[int, int]] = []  # for every token, from where it would be B or O, or I
    for b, i, o in others:
        any_tag = max((best_b, B), (best_i, I), (best_o, O))
        inside = max((best_b, B), (best_i, I))
        came_from.append((any_tag[1], inside[1]))
        best_b, best_i, best_o = any_tag[0] + b, inside[0] + i, any_tag[0] + o
    tag = max((best_b, B), (best_i, I), (best_o, O))[1]
    tags = [tag]
    for before_any, before_inside in reversed(came_from):
        tag = before_inside if tag == I else before_any
        tags.append(tag)
    return tags[::-1]


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
