"""Scores of answers against gold answers, over queries."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from spacy.scorer import PRFScore
from spacy.tokens import Doc
from spacy.training import Example

from .spans import SPANS_KEY, get_queries, has_queries

# More labels than a person reads in a log: an open set has thousands.
MAX_LABELS_LISTED = 100


@dataclass
class Scores:
    """Counts over queries; a query is one label asked of one doc.

    micro: over all spans of all queries.
    per_label: the same for each label.
    absences, answered_absences: queries without a gold answer, and those of them
        that got an answer all the same.
    """

    micro: PRFScore = field(default_factory=PRFScore)
    per_label: dict[str, PRFScore] = field(default_factory=lambda: defaultdict(PRFScore))
    queries: int = 0
    absences: int = 0
    answered_absences: int = 0

    def add(self, label: str, right: set[tuple[int, int]], answered: set[tuple[int, int]]) -> None:
        """Count one query: its gold spans and those answered, as (start, end) characters."""
        self.micro.score_set(answered, right)
        self.per_label[label].score_set(answered, right)
        self.queries += 1
        if not right:
            self.absences += 1
            self.answered_absences += bool(answered)

    @property
    def macro_f(self) -> float:
        """The mean F1 of the labels that have a gold span."""
        scores = [prf.fscore for prf in self.per_label.values() if prf.tp + prf.fn]
        return sum(scores) / len(scores) if scores else 0.0

    @property
    def false_answers(self) -> float:
        """The share of known absences that got an answer, in [0, 1]."""
        return self.answered_absences / self.absences if self.absences else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The figures by name, without those of single labels."""
        return {
            "f": self.micro.fscore,
            "p": self.micro.precision,
            "r": self.micro.recall,
            "macro_f": self.macro_f,
            "false_answers": self.false_answers,
        }


def get_offsets(doc: Doc, key: str) -> dict[str, set[tuple[int, int]]]:
    """The (start, end) characters of the spans of every label."""
    offsets: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for span in doc.spans.get(key, []):
        offsets[span.label_].add((span.start_char, span.end_char))
    return offsets


def score_queries(examples: Iterable[Example], key: str = SPANS_KEY) -> Scores:
    """Score exact spans of the labels that were asked of the reference docs.

    A label in the reference's queries without a span is a known absence: any
    answer to it is false. Spans of labels that were not asked are not looked at,
    since nobody knows whether they are right. Docs without queries are left out.
    """
    scores = Scores()
    for example in examples:
        if not has_queries(example.reference, key):
            continue
        gold, guess = get_offsets(example.reference, key), get_offsets(example.predicted, key)
        for label in get_queries(example.reference, key):
            scores.add(label, gold.get(label, set()), guess.get(label, set()))
    return scores


def score_examples(
    examples: Iterable[Example], *, spans_key: str = SPANS_KEY, **kwargs: Any
) -> dict[str, Any]:
    """The scores under spaCy's names: spans_KEY_f, _p, _r, _macro_f and _false_answers.

    `spans_KEY_per_type` is among them while the labels are few enough to read.
    Without any annotated example they are None, as with spaCy's own scorers.
    """
    scores = score_queries(examples, spans_key)
    figures = scores.to_dict()
    if not scores.queries:
        return {f"spans_{spans_key}_{name}": None for name in figures}
    results: dict[str, Any] = {
        f"spans_{spans_key}_{name}": value for name, value in figures.items()
    }
    if len(scores.per_label) <= MAX_LABELS_LISTED:
        results[f"spans_{spans_key}_per_type"] = {
            label: prf.to_dict() for label, prf in scores.per_label.items()
        }
    return results


def make_scorer() -> Callable[..., dict[str, Any]]:
    """Build `metaie.scorer.v1`."""
    return score_examples
