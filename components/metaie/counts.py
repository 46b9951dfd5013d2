"""What a run of annotation did, in numbers."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spacy.tokens import Doc

from .docbin import write_bytes
from .inputs import LeftOut
from .spans import SPANS_KEY, get_answers
from .teacher.prompt_task import LINES, OUTCOME, OVERLAPS, UNPLACED
from .teacher.queried_labels import UNKNOWN


@dataclass
class Counts:
    """What is in a split.

    unknown: labels that were asked, of which it is not known what the text answers; they are
        not among the queries.
    lines: of the teacher's answers, blank ones aside.
    unplaced: lines that could not be used, by reason.
    overlaps: spans dropped, since they overlap a longer one of the same label.
    outcomes: answers that were empty, refused, cut off or filtered.
    failed: passages without an answer; they are not among the others.
    """

    passages: int = 0
    queries: int = 0
    spans: int = 0
    absences: int = 0
    unknown: int = 0
    lines: int = 0
    unplaced: Counter[str] = field(default_factory=Counter)
    overlaps: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    def add(self, doc: Doc, key: str = SPANS_KEY) -> None:
        """Count an annotated doc."""
        answers = get_answers(doc, key)
        self.passages += 1
        self.queries += len(answers)
        self.spans += sum(map(len, answers.values()))
        self.absences += sum(not spans for spans in answers.values())
        self.unknown += len(doc.user_data.get(UNKNOWN, ()))
        self.lines += doc.user_data.get(LINES, 0)
        self.unplaced.update(doc.user_data.get(UNPLACED, {}))
        self.overlaps += doc.user_data.get(OVERLAPS, 0)
        if outcome := doc.user_data.get(OUTCOME):
            self.outcomes[outcome] += 1

    def merge(self, other: "Counts") -> None:
        """Add what another counted."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        # Not `dataclasses.asdict`: it makes a Counter of a Counter's pairs.
        return {k: dict(v) if isinstance(v, Counter) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Counts":
        """Read what `as_dict` gave."""
        values: dict[str, Any] = {
            k: Counter(v) if isinstance(v, dict) else v for k, v in data.items()
        }
        return cls(**values)


@dataclass
class Summary:
    """What a run did: counts by split, what was left out of its inputs, and what was spent.

    tokens, cost: what the model counts, if it does; the cost in the currency of its prices.
    """

    splits: dict[str, Counts]
    left_out: LeftOut = field(default_factory=LeftOut)
    tokens: int | None = None
    cost: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        splits = {name: count.as_dict() for name, count in self.splits.items()}
        spent = {"tokens": self.tokens, "cost": self.cost}
        return {"splits": splits, **asdict(self.left_out), **spent}

    def write(self, path: Path) -> None:
        """Write everything to a file, as JSON."""
        write_bytes(path, (json.dumps(self.as_dict(), indent=2) + "\n").encode())

    @property
    def failed(self) -> int:
        """Passages without an answer, in all splits."""
        return sum(count.failed for count in self.splits.values())

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The rows of a table: what is counted, a column a split, the sum."""
        counts = list(self.splits.values())
        for name in ("passages", "queries", "spans", "absences"):
            yield self._row(name, [getattr(count, name) for count in counts])
        if any(count.unknown for count in counts):
            yield self._row("labels left unknown", [count.unknown for count in counts])
        yield self._row("lines", [count.lines for count in counts])
        yield self._row("lines not placed", [count.unplaced.total() for count in counts])
        yield from self._kinds("unplaced")
        lines = [count.lines for count in counts]
        bad = [count.unplaced.total() for count in counts]
        pairs = [*zip(bad, lines, strict=True), (sum(bad), sum(lines))]
        yield ("  share of lines", *(f"{b / n if n else 0:.2%}" for b, n in pairs))
        yield self._row("overlapping spans dropped", [count.overlaps for count in counts])
        if any(count.outcomes for count in counts):
            yield self._row("answers not whole", [count.outcomes.total() for count in counts])
            yield from self._kinds("outcomes")
        if self.failed:
            yield self._row("passages that failed", [count.failed for count in counts])

    def _kinds(self, name: str) -> Iterator[tuple[str, ...]]:
        """A row for each key of the counters of that name, the most frequent first."""
        counters = [getattr(count, name) for count in self.splits.values()]
        total = sum(counters, Counter[str]())
        for key, _ in sorted(total.items(), key=lambda item: (-item[1], item[0])):
            yield self._row(f"  {key.replace('_', ' ')}", [counter[key] for counter in counters])

    def _row(self, name: str, numbers: list[int]) -> tuple[str, ...]:
        return (name, *(f"{number:,}" for number in [*numbers, sum(numbers)]))
