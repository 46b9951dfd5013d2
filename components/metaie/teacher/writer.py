"""Appending to a journal: by one process at a time, safe from crashes."""

import os
import threading
import weakref
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from .index import JournalIndex

# An answer is safe from a crash of this process at once, and from one of the machine after
# so many seconds.
SYNC_SECONDS = 1.0
# Two journals of one process may have the same file.
_WRITING = threading.RLock()


def _renew_lock() -> None:
    global _WRITING
    _WRITING = threading.RLock()


if hasattr(os, "register_at_fork"):
    # Another thread may hold it while a process forks, and would never release it in the child.
    os.register_at_fork(after_in_child=_renew_lock)


class JournalLocked(OSError):
    """Another process is writing to the journal."""


class JournalWriter:
    """Appends lines to a journal, which no other process may write to meanwhile.

    index: of the journal; it is kept up to date.

    Raises JournalLocked if another process is writing, OSError if the journal cannot be
    written to.
    """

    def __init__(self, index: JournalIndex) -> None:
        self.index = index
        self.path = index.path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The lock is the process's: a notebook may well make its pipeline twice.
        lock = FileLock(
            f"{self.path.resolve()}.lock", timeout=0, thread_local=False, is_singleton=True
        )
        try:
            lock.acquire()
        except Timeout:
            raise JournalLocked(
                f"Another process is writing to the journal {str(self.path)!r}: wait for it, or "
                "give this one a journal of its own and merge the two afterwards "
                "(`python -m metaie journal merge`). Any number may read it at the same time."
            ) from None
        # At the end of the process, too.
        self._finish = weakref.finalize(self, _finish, self.path, lock, os.getpid())
        self._timer: threading.Timer | None = None
        self._timing, self._syncing = threading.Lock(), threading.Lock()
        self._failure: OSError | None = None

    def append(self, line: bytes) -> None:
        """Append a line and hand it to the system. What a crash has cut off before it goes.

        Raises OSError if it cannot be written, as on a full disk, or if earlier ones could
        not be brought to the disk.
        """
        with _WRITING:
            self.index.catch_up()
            with self.path.open("ab", buffering=0) as file:
                if os.fstat(file.fileno()).st_size > self.index.end:
                    file.truncate(self.index.end)
                if self.index.lacks_newline:
                    line = b"\n" + line
                rest = memoryview(line)
                while rest:
                    rest = rest[file.write(rest) :]
            with self._timing:
                if self._timer is None:
                    self._timer = threading.Timer(SYNC_SECONDS, self._sync_later)
                    self._timer.daemon = True
                    self._timer.start()
            self.index.catch_up()
            self._raise_failure()

    def sync(self) -> None:
        """Wait until what was appended is on the disk. Raises OSError if it cannot be."""
        # Not under the lock of those who append, who need not wait for the disk, nor the disk
        # for an index that is being saved.
        with self._syncing:
            with self._timing:
                timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
                # A new file is lost with its entry in the folder.
                for path in (self.path, self.path.parent):
                    sync_to_disk(path)
        self._raise_failure()

    def close(self) -> None:
        """Sync, and let another process write."""
        try:
            self.sync()
        finally:
            self._finish()

    def _sync_later(self) -> None:
        try:
            self.sync()
        except OSError as err:
            # Nobody listens in this thread: the next call raises it.
            self._failure = err

    def _raise_failure(self) -> None:
        if failure := self._failure:
            self._failure = None
            raise failure


def _finish(path: Path, lock: BaseFileLock, pid: int) -> None:
    # A forked process has a copy of the writer, but not the right to write.
    if os.getpid() != pid:
        return
    with suppress(OSError):
        sync_to_disk(path)
    lock.release()


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
