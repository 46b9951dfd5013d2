"""Where each prompt's record is in a journal: an index, so that no answer waits in memory.

The index is SQLite's. What was indexed before is beside the journal, in `<journal>.index`, if
that was worth a file. The file is never changed, only replaced in one step, so any number of
processes may read it. What was appended since is in a temporary database of this process.
The file holds nothing that the journal does not: it may be deleted at any time.
"""

import hashlib
import os
import sqlite3
import warnings
from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy
from tqdm import tqdm

from ..rows import BadRow
from .record import explain, is_cut_off, parse_record, scan_lines, warn_of_cut_off

# A journal is indexed so fast that only one of so many bytes is worth a file: it takes a
# fraction of a second.
WORTH_A_FILE = 16 * 2**20
# How many records are sorted and put into the database at a time.
CHUNK = 1_000_000
# How many bytes at each end of what is indexed tell whether it is still the same.
CHECKED = 4096
# Of the tables below.
VERSION = 1
# A key is cut to 64 bits: records are compared whole when they are read, so that two prompts
# whose keys begin alike are kept apart. A prompt's records are in the order of the journal.
RECORDS = "records (key INTEGER, offset INTEGER, PRIMARY KEY (key, offset)) WITHOUT ROWID"
COVERAGE = "coverage (bytes INTEGER, lines INTEGER, records INTEGER, ends BLOB)"


class OutdatedIndex(Exception):
    """The index does not fit the journal."""


class JournalIndex:
    """Finds the records of a journal, and follows it as it grows.

    path: the journal, which need not exist yet.
    file_from: how many bytes that are in no file yet are worth one.

    Attributes:
    end: how many of its bytes are whole lines, the last perhaps but for its newline; all
        these are indexed.
    records: how many records that is, duplicates included.

    Raises ValueError, naming the line, if one is not a record. A last line that was cut
    off, as by a crash, is left out with a warning.
    """

    def __init__(self, path: Path, file_from: int = WORTH_A_FILE) -> None:
        self.path = path
        self.file_from = file_from
        self.file_path = path.with_name(f"{path.name}.index")
        self._journal: int | None = None  # a file descriptor
        self._kept = True
        self._warned_at = -1
        # SQLite spills the database "" from memory to a file without a name.
        self._db = sqlite3.connect("", uri=True, check_same_thread=False)
        # It is lost in a crash anyway.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -65536"):
            self._db.execute(f"PRAGMA main.{pragma}")
        self._reset()
        if self._open_journal():
            self._attach()
        self.catch_up()

    def __len__(self) -> int:
        """How many prompts have a record."""
        keys = self._union("SELECT key FROM {}.records")
        return int(
            self._db.execute(
                f"SELECT count(*) FROM (SELECT DISTINCT key FROM ({keys}))"
            ).fetchone()[0]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files. The index is of no use afterwards."""
        self._db.close()
        self._close_journal()

    @property
    def lacks_newline(self) -> bool:
        """Whether the last line does, and another must not follow it just so."""
        if self._journal is None or not self.end:
            return False
        return os.pread(self._journal, 1, self.end - 1) != b"\n"

    def find(self, key: str) -> dict[str, Any] | None:
        """The first record of a prompt's key; None if there was none when last caught up."""
        try:
            return self._find(key)
        except (OutdatedIndex, sqlite3.DatabaseError) as err:
            self._rebuild(str(err))
            return self._find(key)

    def _find(self, key: str) -> dict[str, Any] | None:
        short = shorten_key(key)
        offsets = self._union("SELECT offset FROM {}.records WHERE key = :key")
        for (offset,) in self._db.execute(f"{offsets} ORDER BY offset", {"key": short}).fetchall():
            record = self._read(offset)
            found = record["prompt_sha256"]
            if found == key:
                return record
            if shorten_key(found) != short:
                raise OutdatedIndex(f"another record is at byte {offset:,}")
        return None

    def _union(self, select: str) -> str:
        schemas = ("saved", "main") if self._saved_end else ("main",)
        return " UNION ALL ".join(select.format(schema) for schema in schemas)

    def _read(self, offset: int) -> dict[str, Any]:
        line = b""
        while self._journal is not None and not line.endswith(b"\n"):
            part = os.pread(self._journal, CHECKED, offset + len(line))
            if not part:
                break
            line += part[: part.find(b"\n") + 1 or None]
        try:
            return parse_record(line)
        except BadRow:
            raise OutdatedIndex(f"there is no record at byte {offset:,}") from None

    def catch_up(self) -> bool:
        """Index what was appended to the journal since; whether there was anything.

        A journal that was replaced, or is shorter than before, is indexed anew.
        """
        if self._journal is None and not self._open_journal():
            return False
        assert self._journal is not None
        opened = os.fstat(self._journal)
        try:
            same = os.path.samestat(self.path.stat(), opened)
        except FileNotFoundError:
            same = False
        if not same or opened.st_size < self.end:
            self._rebuild("the journal was replaced, or has become shorter")
            return True
        return opened.st_size > self.end and self._extend(opened.st_size)

    def _extend(self, size: int) -> bool:
        """Index the lines from `end` to `size`, or to what the journal has by then."""
        assert self._journal is not None
        before, end, lines = self.end, self.end, self._lines
        keys, offsets = array("q"), array("q")
        with (
            open(self._journal, "rb", closefd=False) as file,
            tqdm(
                desc=f"Indexing {self.path.name}",
                total=size - end,
                unit="B",
                unit_scale=True,
                disable=None if size - end > WORTH_A_FILE else True,
                leave=False,
            ) as progress,
        ):
            for number, offset, line in scan_lines(file, end, lines):
                if is_cut_off(line):
                    if self._warned_at != number:
                        self._warned_at = number
                        warn_of_cut_off(self.path, number, line)
                    break
                if not line.isspace():
                    try:
                        keys.append(shorten_key(parse_record(line)["prompt_sha256"]))
                    except BadRow as err:
                        raise explain(err, self.path, number, line) from None
                    offsets.append(offset)
                # One that lacks its newline goes on with the next.
                end, lines = offset + len(line), number - (not line.endswith(b"\n"))
                if len(keys) == CHUNK:
                    self._insert(keys, offsets, end, lines)
                    keys, offsets = array("q"), array("q")
                if not number % 4096:
                    progress.update(end - before - progress.n)
        self._insert(keys, offsets, end, lines)
        # A large index is written anew only for a large part of it.
        if self.end - self._saved_end >= max(self.file_from, self.end // 16):
            self._save()
        return self.end > before

    def _insert(self, keys: "array[int]", offsets: "array[int]", end: int, lines: int) -> None:
        # In the order of the keys, SQLite fills page after page.
        order = numpy.argsort(numpy.asarray(keys), kind="stable")
        columns = [numpy.asarray(column)[order].tolist() for column in (keys, offsets)]
        rows = zip(*columns, strict=True)
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO main.records VALUES (?, ?)", rows)
        self.end, self._lines = end, lines
        self.records += len(keys)

    def _rebuild(self, reason: str) -> None:
        warnings.warn(f"The index of {str(self.path)!r} is made anew: {reason}.", stacklevel=2)
        self._close_journal()
        self._reset()
        with suppress(OSError):
            self.file_path.unlink(missing_ok=True)
        if self._open_journal():
            self._extend(self.path.stat().st_size)

    def _reset(self) -> None:
        self._detach("saved")
        self._db.execute("DROP TABLE IF EXISTS main.records")
        self._db.execute(f"CREATE TABLE main.{RECORDS}")
        self.end = self._lines = self.records = self._saved_end = 0

    def _open_journal(self) -> bool:
        try:
            self._journal = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        return True

    def _close_journal(self) -> None:
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def _attach(self) -> None:
        """Use the file beside the journal, if there is one that fits."""
        if not self.file_path.exists():
            return
        try:
            # As nobody changes the file, it needs no locks, and no right to write.
            self._db.execute(
                "ATTACH ? AS saved", (f"{self.file_path.absolute().as_uri()}?mode=ro&immutable=1",)
            )
            self._check_saved()
        except (OutdatedIndex, sqlite3.DatabaseError) as err:
            self._rebuild(str(err))

    def _check_saved(self) -> None:
        if self._db.execute("PRAGMA saved.user_version").fetchone() != (VERSION,):
            raise OutdatedIndex("it is of another version")
        row = self._db.execute("SELECT bytes, lines, records, ends FROM saved.coverage").fetchone()
        if row is None or [type(value) for value in row] != [int, int, int, bytes]:
            raise OutdatedIndex("it does not say what it covers")
        end, lines, records, ends = row
        if self._hash_ends(end) != ends:
            raise OutdatedIndex("the journal is not the one that was indexed")
        self._db.execute("PRAGMA saved.cache_size = -65536")
        self.end = self._saved_end = end
        self._lines, self.records = lines, records

    def _hash_ends(self, end: int) -> bytes:
        """A hash of the first bytes of the journal, and of the last ones before `end`."""
        assert self._journal is not None
        head = os.pread(self._journal, min(CHECKED, end), 0)
        tail = os.pread(self._journal, min(CHECKED, end), max(0, end - CHECKED))
        return hashlib.sha256(head + tail).digest()

    def _save(self) -> None:
        """Put everything into a new file beside the journal, and use that."""
        if not self._kept:
            return
        part = self.file_path.with_name(f".{self.file_path.name}.{os.getpid()}-{id(self):x}.part")
        try:
            self._write(part)
            part.replace(self.file_path)
        except (OSError, sqlite3.DatabaseError) as err:
            self._kept = False
            warnings.warn(
                f"The index of {str(self.path)!r} cannot be kept beside it ({err}), and is made "
                "anew whenever the journal is opened. Let its folder be written to once.",
                stacklevel=2,
            )
            return
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        self._reset()
        self._attach()

    def _write(self, part: Path) -> None:
        try:
            self._db.execute("ATTACH ? AS part", (f"{part.absolute().as_uri()}?mode=rwc",))
            self._db.execute("PRAGMA part.journal_mode = OFF")
            self._db.execute(f"PRAGMA part.user_version = {VERSION}")
            self._db.execute(f"CREATE TABLE part.{RECORDS}")
            self._db.execute(f"CREATE TABLE part.{COVERAGE}")
            rows = self._union("SELECT key, offset FROM {}.records")
            with self._db:
                self._db.execute(f"INSERT INTO part.records {rows} ORDER BY key, offset")
                self._db.execute(
                    "INSERT INTO part.coverage VALUES (?, ?, ?, ?)",
                    (self.end, self._lines, self.records, self._hash_ends(self.end)),
                )
        finally:
            self._detach("part")

    def _detach(self, schema: str) -> None:
        with suppress(sqlite3.OperationalError):  # it was not attached
            self._db.execute(f"DETACH {schema}")


def shorten_key(key: str) -> int:
    """The first 64 bits of a key, as SQLite's integers have a sign."""
    return int(key[:16], 16) - 2**63
