"""What annotated docs hold, counted: labels, spans, lengths, absences, bad lines."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from spacy.tokens import Doc

from .counts import Counts
from .spans import SPANS_KEY, get_answers

MANY_WORDS = 6
EXAMPLES = 3


@dataclass
class LabelKind:
    """Labels of one number of words: 1, 2, … up to "6 or more"."""

    words: str
    labels: int
    queries: int
    absences: int
    examples: list[str]


@dataclass
class CorpusStatistics:
    """Counts over many docs; they grow with the number of distinct labels, not of docs.

    sets: by the name of the set (train, dev …).
    queries, absences: how often a label is asked, and how often it has no answer, by label.
    spans_a_query, spans_a_passage, tokens_a_passage, tokens_a_span: how often each number
        occurs.
    """

    sets: dict[str, Counts] = field(default_factory=dict)
    queries: Counter[str] = field(default_factory=Counter)
    absences: Counter[str] = field(default_factory=Counter)
    genres: Counter[str] = field(default_factory=Counter)
    spans_a_query: Counter[int] = field(default_factory=Counter)
    spans_a_passage: Counter[int] = field(default_factory=Counter)
    tokens_a_passage: Counter[int] = field(default_factory=Counter)
    tokens_a_span: Counter[int] = field(default_factory=Counter)

    def add(self, docs: Iterable[Doc], name: str, key: str = SPANS_KEY) -> None:
        """Count the docs of a set."""
        counts = self.sets.setdefault(name, Counts())
        for doc in docs:
            counts.add(doc, key)
            answers = get_answers(doc, key)
            self.queries.update(answers.keys())
            self.absences.update(label for label, spans in answers.items() if not spans)
            self.spans_a_query.update(len(spans) for spans in answers.values())
            self.spans_a_passage[sum(map(len, answers.values()))] += 1
            self.tokens_a_passage[len(doc)] += 1
            self.tokens_a_span.update(len(span) for spans in answers.values() for span in spans)
            if isinstance(genre := doc.user_data.get("genre"), str):
                self.genres[genre] += 1

    @property
    def total(self) -> Counts:
        """The counts of all sets together."""
        total = Counts()
        for counts in self.sets.values():
            total.merge(counts)
        return total

    def kinds(self) -> Iterator[LabelKind]:
        """Yield the kinds of labels by their number of words, with their most frequent ones."""
        by_words: dict[int, list[str]] = {}
        for label, _ in sort_counts(self.queries):
            by_words.setdefault(min(len(label.split()), MANY_WORDS), []).append(label)
        for words, labels in sorted(by_words.items()):
            yield LabelKind(
                f"{words} or more" if words == MANY_WORDS else str(words),
                len(labels),
                sum(self.queries[label] for label in labels),
                sum(self.absences[label] for label in labels),
                labels[:EXAMPLES],
            )


def sort_counts(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent first, equal ones by their names: the same order each time."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def find_quantile(counts: Counter[int], share: float) -> int:
    """The smallest number that so large a share of the counted do not exceed; 0 for none."""
    rest = share * counts.total()
    for number, count in sorted(counts.items()):
        rest -= count
        if rest <= 0:
            return number
    return 0
