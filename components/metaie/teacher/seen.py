"""The keys of a journal that were there before, for any number of them."""

import sqlite3
from typing import Self


class SeenKeys:
    """Remembers keys and where each was first. What memory does not hold goes to a file."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -262144"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def add(self, key: str, line: int = 0) -> int | None:
        """Add a key, and where it is. Returns where it was before; None if it was not."""
        blob = bytes.fromhex(key)
        insert = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
        if self._db.execute(insert, (blob, line)).rowcount:
            return None
        row = self._db.execute("SELECT line FROM seen WHERE key = ?", (blob,)).fetchone()
        return int(row[0])
