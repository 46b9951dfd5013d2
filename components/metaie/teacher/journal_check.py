"""Looking over a journal, every line of it."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from ..rows import BadRow
from .journal_copy import new_file
from .record import is_cut_off, parse_record, scan_lines
from .seen import SeenKeys


@dataclass(frozen=True)
class Problem:
    """A line that is not a record that counts.

    kind: "bad", no record; "cut off", a last line without its end; "duplicate", of a prompt
        that has a record before.
    """

    line: int
    kind: Literal["bad", "cut off", "duplicate"]
    detail: str


def check_journal(path: Path, repaired: Path | None = None) -> Iterator[Problem]:
    """Yield the problems of a journal's lines, in order.

    repaired: a new file for all lines without a problem.

    Raises FileNotFoundError, or FileExistsError if there is a repaired one already.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no journal at {str(path)!r}.")
    with (
        path.open("rb") as file,
        new_file(repaired) if repaired else nullcontext() as copy,
        SeenKeys() as seen,
        tqdm(
            desc=path.name,
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            disable=None,
            leave=False,
        ) as progress,
    ):
        for number, _, line in scan_lines(file):
            progress.update(len(line))
            problem = find_problem(number, line, seen)
            if problem is not None:
                yield problem
            elif copy is not None and not line.isspace():
                copy.write(line.rstrip(b"\n") + b"\n")


def find_problem(number: int, line: bytes, seen: SeenKeys) -> Problem | None:
    """What is wrong with a line, if anything. Keys that are right are added to `seen`."""
    if is_cut_off(line):
        return Problem(number, "cut off", f"{len(line):,} bytes without an end: {line[:80]!r}")
    if line.isspace():
        return None
    try:
        record = parse_record(line)
    except BadRow as err:
        return Problem(number, "bad", str(err))
    first = seen.add(record["prompt_sha256"], number)
    if first is not None:
        return Problem(number, "duplicate", f"of line {first:,}")
    return None
