import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from metaie.teacher.index import JournalIndex
from metaie.teacher.journal import Journal
from metaie.teacher.record import hash_prompt
from metaie.teacher.writer import SYNC_SECONDS, JournalLocked, JournalWriter

# What a child has from its parent need not be loaded again.
FORK = multiprocessing.get_context("fork")


def make_line(prompt: str) -> bytes:
    return json.dumps({"prompt_sha256": hash_prompt(prompt), "response": prompt}).encode() + b"\n"


def run(target: Callable[..., None], *args: object) -> int:
    """Run a function in a process of its own; returns its exit code."""
    child = FORK.Process(target=target, args=args)
    child.start()
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.jsonl"


def test_lines_are_appended_and_indexed(path: Path) -> None:
    with JournalIndex(path) as index:
        writer = JournalWriter(index)
        for prompt in "abc":
            writer.append(make_line(prompt))
            assert path.read_bytes().endswith(make_line(prompt))
            assert index.find(hash_prompt(prompt)) is not None
        writer.close()


def write_until_killed(path: Path, ready: "multiprocessing.synchronize.Event") -> None:
    writer = JournalWriter(JournalIndex(path))
    writer.append(make_line("a"))
    ready.set()
    time.sleep(60)


def test_a_second_writer_is_refused_until_the_first_is_gone(path: Path) -> None:
    ready = FORK.Event()
    child = FORK.Process(target=write_until_killed, args=(path, ready))
    child.start()
    try:
        assert ready.wait(60)
        with JournalIndex(path) as index:
            assert index.find(hash_prompt("a"))  # reading is allowed
            with pytest.raises(JournalLocked, match="Another process is writing") as caught:
                JournalWriter(index)
            assert str(path) in str(caught.value) and "journal merge" in str(caught.value)
    finally:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    with JournalIndex(path) as index:
        writer = JournalWriter(index)
        writer.append(make_line("b"))
        writer.close()
    assert path.read_bytes() == make_line("a") + make_line("b")


def write_and_close(path: Path) -> None:
    JournalWriter(JournalIndex(path)).close()


def refuse(path: Path) -> None:
    with pytest.raises(JournalLocked):
        JournalWriter(JournalIndex(path))


def test_a_writer_that_is_closed_or_dropped_lets_others_write(path: Path) -> None:
    writer = JournalWriter(JournalIndex(path))
    assert run(refuse, path) == 0
    writer.close()
    assert run(write_and_close, path) == 0
    writer = JournalWriter(JournalIndex(path))
    del writer
    assert run(write_and_close, path) == 0


def test_two_writers_of_one_process_take_turns(path: Path) -> None:
    one, other = (JournalWriter(JournalIndex(path)) for _ in range(2))
    for prompt, writer in zip("abcd", (one, other, other, one), strict=True):
        writer.append(make_line(prompt))
    assert path.read_bytes() == b"".join(map(make_line, "abcd"))
    assert other.index.find(hash_prompt("a"))
    one.close()
    assert run(refuse, path) == 0
    other.close()
    assert run(write_and_close, path) == 0


def use_after_fork(journal: Journal) -> None:
    assert [list(answers) for answers in journal([["a"]])] == [["A"]]
    with pytest.raises(JournalLocked):
        list(journal([["b"]]))


def test_a_fork_may_read_and_not_write(path: Path) -> None:
    journal = Journal(path, lambda prompts: [[prompt.upper()] for (prompt,) in prompts])
    list(journal([["a"]]))
    assert run(use_after_fork, journal) == 0
    assert [list(answers) for answers in journal([["a"], ["c"]])] == [["A"], ["C"]]
    assert run(refuse, path) == 0


def append(path: Path) -> None:
    writer = JournalWriter(JournalIndex(path))
    writer.append(make_line("child"))
    writer.close()


def test_a_fork_during_a_slow_sync_is_not_held_up(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    sync = os.fsync

    def wait(descriptor: int) -> None:
        begun.set()
        assert go_on.wait(60)
        sync(descriptor)

    writer = JournalWriter(JournalIndex(path))
    monkeypatch.setattr(os, "fsync", wait)
    writer.append(make_line("a"))
    assert begun.wait(30 * SYNC_SECONDS)
    writer.append(make_line("b"))  # nor is who appends
    monkeypatch.setattr(os, "fsync", sync)
    child = FORK.Process(target=append, args=(tmp_path / "other.jsonl",))
    child.start()
    child.join(30)
    go_on.set()
    child.kill()
    assert child.exitcode == 0
    writer.close()
    assert path.read_bytes() == make_line("a") + make_line("b")


def test_a_process_that_ends_syncs_first(path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from metaie.teacher.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]), lambda prompts: ([p] for [p] in prompts))\n"
        "stream = journal([['a'], ['b']])\n"
        "next(stream)\n"
        "sync = os.fsync\n"
        "os.fsync = lambda descriptor: print(os.readlink(f'/proc/self/fd/{descriptor}'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert str(path) in done.stdout.split("\n")


def test_a_last_line_without_a_newline_is_kept(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(make_line("a") + make_line("b").rstrip())
    with JournalIndex(path) as index:
        assert index.find(hash_prompt("b"))
        writer = JournalWriter(index)
        writer.append(make_line("c"))
        writer.close()
        assert path.read_bytes() == b"".join(map(make_line, "abc"))
        assert all(index.find(hash_prompt(prompt)) for prompt in "abc")
        with path.open("ab") as file:
            file.write(b"broken\n")
        with pytest.raises(ValueError, match="line 4 is not a record"):
            index.catch_up()


def fill_disk(path: Path) -> None:
    writer = JournalWriter(JournalIndex(path))
    writer.append(make_line("a"))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(make_line("a")) + 10, hard))
    with pytest.raises(OSError, match="too large"):
        writer.append(make_line("b"))
    assert path.read_bytes() == make_line("a") + make_line("b")[:10]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    with pytest.warns(UserWarning, match="line 2.*cut off after 10 bytes"):
        writer.append(make_line("c"))


def test_a_full_disk_leaves_nothing_behind(path: Path) -> None:
    assert run(fill_disk, path) == 0
    assert path.read_bytes() == make_line("a") + make_line("c")


def test_lines_are_synced_by_the_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    sync = os.fsync

    def watch(descriptor: int) -> None:
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", watch)
    writer = JournalWriter(JournalIndex(path))
    for i in range(200):
        writer.append(make_line(str(i)))
    # Far fewer than lines, even where the lines take long: one for each second, of file and folder.
    assert len(synced) < 200
    writer.sync()
    assert path.stat().st_size in synced
    synced.clear()
    writer.sync()  # there is nothing to do
    assert not synced
    writer.append(make_line("late"))
    deadline = time.monotonic() + 30 * SYNC_SECONDS
    while path.stat().st_size not in synced and time.monotonic() < deadline:
        time.sleep(0.05)
    assert path.stat().st_size in synced
    writer.append(make_line("later"))
    writer.close()
    assert path.stat().st_size in synced


def test_a_failure_to_sync_is_raised_by_what_comes_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(JournalIndex(path))
    writer.append(make_line("a"))
    path.rename(path.with_name("elsewhere"))
    deadline = time.monotonic() + 30 * SYNC_SECONDS
    while writer._failure is None and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(FileNotFoundError), pytest.warns(UserWarning, match="replaced"):
        writer.append(make_line("b"))
    writer.close()
    assert path.read_bytes() == make_line("b")


def record(path: Path, n_prompts: int) -> None:
    journal = Journal(path, lambda prompts: [[prompt.upper()] for (prompt,) in prompts], None, 1)
    for i in range(n_prompts):
        assert list(journal([[f"p{i}"]])) == [[f"P{i}"]]


def follow(path: Path, n_prompts: int) -> None:
    """Read a journal that grows, from the start and anew each time, until all is there."""
    warnings.simplefilter("ignore")  # a line may be seen before it is whole
    early = JournalIndex(path, file_from=1)
    n_found = 0
    deadline = time.monotonic() + 50
    while n_found < n_prompts and time.monotonic() < deadline:
        with JournalIndex(path, file_from=1000) as late:
            early.catch_up()
            for index in (early, late):
                answers = [index.find(hash_prompt(f"p{i}")) for i in range(n_prompts)]
                found = [answer["response"] for answer in answers if answer]
                assert found == [f"P{i}" for i in range(len(found))]
            assert len(found) >= n_found
            n_found = len(found)
    assert n_found == n_prompts


def test_many_read_while_one_writes(path: Path) -> None:
    n_prompts = 200
    readers = [FORK.Process(target=follow, args=(path, n_prompts)) for _ in range(4)]
    writer = FORK.Process(target=record, args=(path, n_prompts))
    for process in (*readers, writer):
        process.start()
    for process in (*readers, writer):
        process.join(60)
        assert process.exitcode == 0
