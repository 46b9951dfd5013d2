"""Queries: one label asked of one window of a doc.

A doc longer than `window` tokens is cut into windows that overlap, so that no
text is ever truncated and a span at the edge of one window lies well inside
another.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from spacy.tokens import Doc, Span


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """The label that is asked of the tokens `start` to `end` (exclusive) of a doc."""

    doc: Doc
    start: int
    end: int
    label: str

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def span(self) -> Span:
        """The window itself."""
        return self.doc[self.start : self.end]


def cut_windows(n_tokens: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Cut `n_tokens` tokens into windows of at most `window` tokens.

    A window starts every `stride` tokens; the last one ends with the text and
    reaches back, so that it is as long as the others.

    Returns [(start, end), ...], none for an empty text. Raises ValueError unless
    0 < stride <= window: a larger stride would leave tokens unread.
    """
    if not 0 < stride <= window:
        raise ValueError(
            f"The stride must be at least 1 and at most the window ({window}), not {stride}."
        )
    if n_tokens <= window:
        return [(0, n_tokens)] if n_tokens else []
    starts = [*range(0, n_tokens - window, stride), n_tokens - window]
    return [(start, start + window) for start in starts]


def make_queries(doc: Doc, labels: Iterable[str], window: int, stride: int) -> Iterator[Query]:
    """Yield the queries that ask every label of every window, window by window."""
    labels = list(labels)
    for start, end in cut_windows(len(doc), window, stride):
        for label in labels:
            yield Query(doc, start, end, label)
