"""What is in a journal: counts of records, teachers, outcomes and tokens."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from .index import JournalIndex
from .record import TOKENS, read_records


@dataclass
class JournalStats:
    """Counts of a journal.

    records: the lines that are records; duplicates: those that do not count, as their prompt
        has a record before.
    size: in bytes; cut_off: how many of them are a last record that was cut off.
    first, last: the earliest and the latest time of a record, ISO 8601; None without any.
    tokens: by kind, of `counted` records: the rest does not say.
    """

    records: int = 0
    duplicates: int = 0
    size: int = 0
    cut_off: int = 0
    first: str | None = None
    last: str | None = None
    teachers: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    counted: int = 0

    def rows(self) -> Iterator[tuple[str, str]]:
        """The rows of a table."""
        yield "records", f"{self.records:,}"
        yield "prompts", f"{self.records - self.duplicates:,}"
        yield "duplicates", f"{self.duplicates:,}"
        yield "bytes", f"{self.size:,}"
        if self.cut_off:
            yield "bytes cut off at the end", f"{self.cut_off:,}"
        yield "first", self.first or "not known"
        yield "last", self.last or "not known"
        for title, counts in (("teacher", self.teachers), ("outcome", self.outcomes)):
            for name, count in counts.most_common():
                yield f"{title}: {name}", f"{count:,}"
        for name in TOKENS:
            shown = f"{self.tokens[name]:,}" if self.counted else "not known"
            yield name.replace("_", " "), shown
        if 0 < self.counted < self.records:
            yield "records with tokens", f"{self.counted:,}"


def count_journal(path: Path) -> JournalStats:
    """Count what a journal holds, line by line.

    Raises FileNotFoundError, or ValueError naming a line that is not a record.
    """
    records = read_records(path)
    stats = JournalStats()
    for _, record in tqdm(records, desc=path.name, unit=" records", disable=None, leave=False):
        stats.records += 1
        stats.teachers[record.get("teacher") or "not known"] += 1
        stats.outcomes[record.get("outcome", "ok")] += 1
        if any(record.get(name) is not None for name in TOKENS):
            stats.counted += 1
            stats.tokens.update({name: record.get(name) or 0 for name in TOKENS})
        if time := record.get("time"):
            stats.first = min(stats.first or time, time)
            stats.last = max(stats.last or time, time)
    with JournalIndex(path) as index:
        stats.size = path.stat().st_size
        stats.cut_off = stats.size - index.end
        stats.duplicates = index.records - len(index)
    return stats
