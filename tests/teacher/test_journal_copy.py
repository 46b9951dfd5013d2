from datetime import UTC, datetime
from pathlib import Path

import pytest
from metaie.cli import app
from metaie.teacher.answer import Answer
from metaie.teacher.journal import Journal
from metaie.teacher.journal_copy import Copied, export_journal, merge_journals
from metaie.teacher.record import format_record, hash_prompt
from typer.testing import CliRunner


def make_line(prompt: str, answer: Answer, teacher: str = "mini", day: int = 1) -> bytes:
    return format_record(hash_prompt(prompt), answer, teacher, f"2026-01-0{day}T12:00:00+00:00")


LINES = [
    make_line("a", Answer("", "refused"), day=1),
    make_line("b", Answer("B"), day=2),
    make_line("a", Answer("A"), "maxi", day=3),
    b'{"id": "c-1", "prompt_sha256":"%s", "response":"C"}\n' % hash_prompt("c").encode(),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(LINES))
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "new" / "output.jsonl"


def test_of_merged_journals_the_first_wins(path: Path, output: Path) -> None:
    other = path.with_name("other.jsonl")
    other.write_bytes(make_line("d", Answer("D")) + make_line("b", Answer("other")) + b"{cut")
    with pytest.warns(UserWarning, match=r"other\.jsonl, line 3.*cut off"):
        assert merge_journals([path, other], output) == Copied(4, 2, 0)
    assert output.read_bytes() == LINES[0] + LINES[1] + LINES[3] + make_line("d", Answer("D"))
    answers = [next(iter(answers)) for answers in Journal(output)([["a"], ["b"], ["c"], ["d"]])]
    assert answers == ["", "B", "C", "D"]


def test_nothing_is_written_over(path: Path, output: Path) -> None:
    other = path.with_name("other.jsonl")
    other.write_bytes(LINES[1])
    for target in (path, other):
        before = target.read_bytes()
        with pytest.raises(FileExistsError, match=target.name):
            merge_journals([path, other], target)
        assert target.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["journal.jsonl", "other.jsonl"]


@pytest.mark.parametrize("problem", ["bad", "missing"])
def test_a_copy_is_whole_or_not_there(path: Path, output: Path, problem: str) -> None:
    other = path.with_name("other.jsonl")
    if problem == "bad":
        other.write_bytes(LINES[1] + b"oops\n")
    with pytest.raises((ValueError, FileNotFoundError), match=r"other\.jsonl"):
        merge_journals([path, other], output)
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("chosen", "lines", "copied"),
    [
        ({}, [0, 1, 3], Copied(3, 1, 0)),
        ({"outcomes": ["ok"]}, [1, 2, 3], Copied(3, 0, 1)),
        ({"outcomes": ["ok", "refused"], "teachers": ["mini"]}, [0, 1], Copied(2, 0, 2)),
        ({"since": datetime(2026, 1, 2, 12)}, [1, 2], Copied(2, 0, 2)),
        ({"until": datetime(2026, 1, 2, 12, tzinfo=UTC)}, [0], Copied(1, 0, 3)),
        ({"since": datetime(2026, 1, 2), "until": datetime(2026, 1, 3)}, [1], Copied(1, 0, 3)),
    ],
)
def test_chosen_records_are_exported_as_they_are(
    path: Path, output: Path, chosen: dict[str, list[str]], lines: list[int], copied: Copied
) -> None:
    assert export_journal(path, output, **chosen) == copied  # type: ignore[arg-type]
    assert output.read_bytes() == b"".join(LINES[i] for i in lines)


def test_what_is_no_time_is_no_chosen_one(path: Path, output: Path) -> None:
    path.write_bytes(make_line("a", Answer("A")).replace(b"2026-01-01T12", b"last Friday"))
    assert export_journal(path, output, since=datetime(1970, 1, 1)) == Copied(0, 0, 1)


def test_the_commands(path: Path, output: Path) -> None:
    def invoke(*args: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["journal", *map(str, args)])
        return result.exit_code, " ".join((result.stdout + result.stderr).split())

    chosen = ["--outcome", "ok", "--teacher", "mini", "--since", "2026-01-02"]
    code, out = invoke("export", path, output, *chosen)
    assert code == 0 and "1 records; 3 were not chosen, 0 are duplicates" in out
    assert output.read_bytes() == LINES[1]
    both = output.with_name("both.jsonl")
    code, out = invoke("merge", output, path, both)
    assert code == 0 and "3 records, 2 duplicates left out" in out
    assert both.read_bytes() == LINES[1] + LINES[0] + LINES[3]
    code, out = invoke("merge", output, path, both)
    assert code == 1 and "already" in out
    code, out = invoke("export", path, output.with_name("x.jsonl"), "--outcome", "fine")
    assert code == 1 and "'fine'" in out and "cut_off" in out
