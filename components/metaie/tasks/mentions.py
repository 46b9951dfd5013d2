"""Which mention a second query is about, where several share their words.

A query names its anchor by its words, so two mentions of "Ada" share the query "Ada works for".
It is asked once, and each answer goes to the mention that it is nearest to.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from spacy.tokens import Span

from .schema import Found, Part, Schema


@dataclass(frozen=True)
class Question:
    """A second query, and whom it is about.

    about: (anchor, name of what is asked of it), one for each mention.
    """

    query: str
    about: list[tuple[Found, str]]


def make_questions(
    schema: Schema, anchors: Iterable[Found], found: Collection[str] | None = None
) -> list[Question]:
    """The second queries about the anchors, each once, in the first mention's spelling.

    Queries that differ in case alone are one. found: see `Schema.ask`.
    """
    questions: dict[str, Question] = {}
    for anchor in anchors:
        for name, query in schema.ask(anchor.span, found).items():
            question = questions.setdefault(query.casefold(), Question(query, []))
            question.about.append((anchor, name))
    return list(questions.values())


def share_answers(
    questions: Iterable[Question], answers: Mapping[str, Iterable[Found]]
) -> list[Part]:
    """Give each answer to the nearest mention; to one of each label and name, if these differ.

    answers: by query.
    """
    parts: list[Part] = []
    for question in questions:
        rivals: dict[tuple[str, str], list[Found]] = {}
        for anchor, name in question.about:
            rivals.setdefault((anchor.span.label_, name), []).append(anchor)
        for answer in answers.get(question.query, ()):
            for (_, name), mentions in rivals.items():
                nearest = min(mentions, key=lambda mention: measure_gap(mention.span, answer.span))
                parts.append(Part(nearest, name, answer.span, answer.score))
    return parts


def measure_gap(one: Span, other: Span) -> int:
    """The number of tokens between two spans; 0 where they touch, less where they overlap."""
    return max(one.start, other.start) - min(one.end, other.end)
