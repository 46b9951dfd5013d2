import json
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.teacher.index import WORTH_A_FILE, JournalIndex, shorten_key
from metaie.teacher.record import hash_prompt


def make_line(prompt: str, response: str = "") -> bytes:
    row = {"prompt_sha256": hash_prompt(prompt), "response": response or prompt.upper()}
    return json.dumps(row).encode() + b"\n"


def find(index: JournalIndex, prompt: str) -> str | None:
    row = index.find(hash_prompt(prompt))
    return row and row["response"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(map(make_line, "abc")))
    return path


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def make_index(path: Path) -> JournalIndex:
    """An index that is kept in a file, however small the journal is."""
    return JournalIndex(path, file_from=1)


def test_a_small_journal_has_no_file_beside_it(path: Path) -> None:
    with JournalIndex(path) as index:
        assert [find(index, prompt) for prompt in "abcd"] == ["A", "B", "C", None]
        assert (len(index), index.records, index.end) == (3, 3, path.stat().st_size)
    assert list(path.parent.iterdir()) == [path]


def test_a_large_journal_has(path: Path) -> None:
    with path.open("ab") as file:
        for i in range(17):
            file.write(make_line(str(i), "x" * 2**20))
    assert path.stat().st_size > WORTH_A_FILE
    with JournalIndex(path) as index:
        assert find(index, "16") == "x" * 2**20
    assert sorted(p.name for p in path.parent.iterdir()) == ["journal.jsonl", "journal.jsonl.index"]
    with quiet(), JournalIndex(path) as index:
        assert [find(index, prompt) for prompt in ("a", "7", "17")] == ["A", "x" * 2**20, None]


def test_the_file_is_used_and_not_read_past(path: Path) -> None:
    # That the bad line is not noticed shows that the journal was not read again.
    lines = path.read_bytes().splitlines(keepends=True)
    bad = b"x" * (len(lines[1]) - 1) + b"\n"
    path.write_bytes(b"".join([lines[0] * 100, lines[1], lines[2] * 100]))
    make_index(path).close()
    path.write_bytes(b"".join([lines[0] * 100, bad, lines[2] * 100]))
    with JournalIndex(path) as index:
        assert (find(index, "a"), find(index, "c")) == ("A", "C")
        with (
            pytest.warns(UserWarning, match="made anew: there is no record at byte"),
            pytest.raises(ValueError, match="line 101 is not a record"),
        ):
            find(index, "b")


def test_what_was_appended_is_found(path: Path) -> None:
    with make_index(path) as index, path.open("ab") as file:
        file.write(make_line("d") + make_line("e")[:-5])
        file.flush()
        assert find(index, "d") is None
        with pytest.warns(UserWarning, match="line 5.*cut off"):
            assert index.catch_up()
        assert (find(index, "d"), find(index, "e")) == ("D", None)
        with quiet():  # it was said
            assert not index.catch_up()
        file.write(make_line("e")[-5:])
        file.flush()
        assert index.catch_up() and not index.catch_up()
        assert (find(index, "a"), find(index, "e"), len(index)) == ("A", "E", 5)
    with quiet(), make_index(path) as index:
        assert [find(index, prompt) for prompt in "abcde"] == list("ABCDE")


def test_an_index_serves_several_at_a_time(path: Path) -> None:
    with make_index(path) as early, path.open("ab") as file:
        file.write(make_line("d"))
        file.flush()
        with make_index(path) as late:  # replaces the file
            assert (find(early, "a"), find(early, "d"), find(late, "d")) == ("A", None, "D")
            assert early.catch_up()
            assert (find(early, "a"), find(early, "d")) == ("A", "D")


def test_the_first_record_of_a_prompt_is_found(path: Path) -> None:
    with path.open("ab") as file:
        file.write(make_line("a", "second"))
    with make_index(path) as index, path.open("ab") as file:
        file.write(make_line("a", "third"))
        file.flush()
        index.catch_up()
        assert (find(index, "a"), len(index), index.records) == ("A", 3, 5)


def test_keys_that_begin_alike_are_told_apart(path: Path) -> None:
    one, other = hash_prompt("a"), hash_prompt("a")[:16] + "0" * 48
    row = {"prompt_sha256": other, "response": "other"}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    with make_index(path) as index:
        assert shorten_key(one) == shorten_key(other)
        assert [index.find(key)["response"] for key in (one, other)] == ["A", "other"]  # type: ignore[index]
        assert index.find(one[:16] + "1" * 48) is None


def test_a_journal_that_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with JournalIndex(path) as index:
        assert find(index, "a") is None and not index.catch_up()
        path.write_bytes(make_line("a"))
        assert index.catch_up() and find(index, "a") == "A"


@pytest.mark.parametrize("change", ["shorter", "replaced", "other", "gone"])
def test_a_journal_that_changed_is_indexed_anew(path: Path, change: str) -> None:
    new = path.with_name("new.jsonl")
    index = make_index(path)
    if change == "shorter":
        os.truncate(path, len(make_line("a")))
    elif change == "replaced":
        new.write_bytes(make_line("d") + path.read_bytes())
        new.replace(path)
    elif change == "other":
        new.write_bytes(b"".join(map(make_line, "abd")))
        new.replace(path)
    else:
        path.unlink()
    found = {"shorter": "A...", "replaced": "ABCD", "other": "AB.D", "gone": "...."}[change]
    expected = [None if answer == "." else answer for answer in found]
    with index:
        with pytest.warns(UserWarning, match="replaced, or has become shorter"):
            assert index.catch_up()
        assert [find(index, prompt) for prompt in "abcd"] == expected


def test_a_file_of_another_journal_is_not_used(path: Path) -> None:
    make_index(path).close()
    path.write_bytes(b"".join(map(make_line, "dcb")))
    with pytest.warns(UserWarning, match="not the one that was indexed"), make_index(path) as index:
        assert [find(index, prompt) for prompt in "abcd"] == [None, "B", "C", "D"]
    with quiet(), make_index(path) as index:
        assert find(index, "d") == "D"


@pytest.mark.parametrize(
    "data",
    [b"", b"not a database at all", b"SQLite format 3\0" + b"\xff" * 5000, "table", "version"],
)
def test_a_file_that_is_no_index_is_made_anew(path: Path, data: bytes | str) -> None:
    file = path.with_name("journal.jsonl.index")
    if isinstance(data, bytes):
        file.write_bytes(data)
    else:
        make_index(path).close()
        with closing(sqlite3.connect(file)) as db, db:
            db.execute("DROP TABLE coverage" if data == "table" else "PRAGMA user_version = 99")
    with pytest.warns(UserWarning, match="made anew"), make_index(path) as index:
        assert [find(index, prompt) for prompt in "abcd"] == ["A", "B", "C", None]
    with quiet(), make_index(path) as index:
        assert find(index, "c") == "C"


@pytest.mark.filterwarnings("ignore:.*unable to open database")
def test_a_place_that_cannot_be_written(path: Path) -> None:
    path.with_name("journal.jsonl.index").mkdir()
    with pytest.warns(UserWarning, match="cannot be kept beside it"):
        index = make_index(path)
    with index, path.open("ab") as file:
        assert [find(index, prompt) for prompt in "abcd"] == ["A", "B", "C", None]
        file.write(make_line("d"))
        file.flush()
        with quiet():
            assert index.catch_up() and find(index, "d") == "D"
    assert sorted(p.name for p in path.parent.iterdir()) == ["journal.jsonl", "journal.jsonl.index"]


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that this process may not write to, for as long as the fixture lasts."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are root's alone
    (folder / "journal.jsonl").write_bytes(b"".join(map(make_line, "abc")))
    yield folder
    os.seteuid(os.getuid())
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("kept", [False, True])
def test_a_folder_that_is_read_only(read_only: Path, kept: bool) -> None:
    path = read_only / "journal.jsonl"
    if kept:
        make_index(path).close()
        with path.open("ab") as file:
            file.write(make_line("d"))
    read_only.chmod(0o555)
    if os.getuid() == 0:  # root may write anywhere
        os.seteuid(65534)
    before = sorted(read_only.iterdir())
    with pytest.raises(PermissionError):
        (read_only / "new").touch()
    with pytest.warns(UserWarning, match="cannot be kept"):
        index = make_index(path)
    with index:
        expected = "ABCD" if kept else "ABC"
        assert [find(index, prompt) for prompt in "abcd"] == [*expected, None][:4]
    with quiet(), JournalIndex(path) as index:  # a file is not called for
        assert find(index, "a") == "A"
    assert sorted(read_only.iterdir()) == before


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_happens_to_the_file_the_answers_are_right(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "journal.jsonl"
        answers: dict[str, str] = {}
        index: JournalIndex | None = None
        for step in range(data.draw(st.integers(1, 12), label="steps")):
            operation = data.draw(st.sampled_from(["append", "reopen", "lose", "cut", "break"]))
            file = path.with_name("journal.jsonl.index")
            if operation == "append":
                prompts = data.draw(st.lists(st.sampled_from("abcdefgh"), max_size=5))
                with path.open("ab") as journal:
                    for prompt in prompts:
                        response = f"{prompt} {step}"
                        answers.setdefault(prompt, response)
                        journal.write(make_line(prompt, response))
            elif operation == "lose":
                file.unlink(missing_ok=True)
            elif operation == "cut" and file.exists():
                size = data.draw(st.integers(0, file.stat().st_size))
                file.write_bytes(file.read_bytes()[:size])
                index = None  # nobody but us changes it while it is read
            elif operation == "break" and file.exists():
                whole = bytearray(file.read_bytes())
                at = data.draw(st.integers(0, 99))  # SQLite's header
                whole[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
                file.write_bytes(whole)
                index = None
            if index is None or operation == "reopen":
                if index is not None:
                    index.close()
                index = make_index(path)
            index.catch_up()
            assert {p: find(index, p) for p in "abcdefgh"} == {
                p: answers.get(p) for p in "abcdefgh"
            }
        if index is not None:
            index.close()
