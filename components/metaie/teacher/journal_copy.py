"""Journals into a new one: all of several, or some records of one."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from .record import RECORDED, read_records
from .seen import SeenKeys
from .writer import sync_to_disk


@dataclass
class Copied:
    """What a copy did: records written, left out as duplicates, and left out by choice."""

    records: int = 0
    duplicates: int = 0
    left_out: int = 0


def merge_journals(paths: Sequence[Path], output: Path) -> Copied:
    """Write a new journal with the records of several, each prompt's first.

    Raises FileNotFoundError, FileExistsError if there is an output already, or ValueError
    naming file and line of what is not a record.
    """
    return copy_records(paths, output, lambda record: True)


def export_journal(
    path: Path,
    output: Path,
    *,
    teachers: Collection[str] = (),
    outcomes: Collection[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
) -> Copied:
    """Write a new journal with the chosen records of one, each prompt's first of these.

    teachers, outcomes: those wanted; none means all. Records that name no outcome are "ok".
    since, until: the first moment wanted, and the first no more so, in UTC unless they say
        otherwise. With either, records that have no time are left out.

    Raises as `merge_journals` does, and ValueError for an outcome that there is not.
    """
    if unknown := set(outcomes) - set(RECORDED):
        raise ValueError(
            f"No record has the outcome {sorted(unknown)[0]!r}, but one of: {', '.join(RECORDED)}."
        )

    def is_wanted(record: dict[str, Any]) -> bool:
        if teachers and record.get("teacher") not in teachers:
            return False
        if outcomes and record.get("outcome", "ok") not in outcomes:
            return False
        if since is None and until is None:
            return True
        time = parse_time(record.get("time"))
        if time is None:
            return False
        return (since is None or time >= with_zone(since)) and (
            until is None or time < with_zone(until)
        )

    return copy_records([path], output, is_wanted)


def parse_time(time: str | None) -> datetime | None:
    """A record's time; None if it has none, or what it has is not ISO 8601."""
    if time is not None:
        with suppress(ValueError):
            return with_zone(datetime.fromisoformat(time))
    return None


def with_zone(time: datetime) -> datetime:
    """The time, in UTC if it does not say where."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def copy_records(
    paths: Sequence[Path], output: Path, is_wanted: Callable[[dict[str, Any]], bool]
) -> Copied:
    """Copy the lines of wanted records as they are, each prompt's first of these."""
    copied = Copied()
    with new_file(output) as file, SeenKeys() as seen:
        for path in paths:
            records = read_records(path)
            for line, record in tqdm(
                records, desc=path.name, unit=" records", disable=None, leave=False
            ):
                if not is_wanted(record):
                    copied.left_out += 1
                elif seen.add(record["prompt_sha256"]) is not None:
                    copied.duplicates += 1
                else:
                    copied.records += 1
                    file.write(line)
    return copied


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is there, on the disk, when all is written, and not at all before.

    Raises FileExistsError if there is one already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            refuse_to_replace(path)
            yield file
            file.flush()
            os.fsync(file.fileno())
        refuse_to_replace(path)
        part.replace(path)
        sync_to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


def refuse_to_replace(path: Path) -> None:
    """Raise FileExistsError if there is something at the path."""
    if path.exists():
        raise FileExistsError(
            f"There is a file {str(path)!r} already, and what it holds may have cost money: "
            "give another name, or move it away first."
        )
