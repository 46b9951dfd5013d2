import json
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.cli import app
from metaie.teacher.index import JournalIndex
from metaie.teacher.journal_check import check_journal
from metaie.teacher.record import hash_prompt
from typer.testing import CliRunner


def make_line(prompt: str) -> bytes:
    return json.dumps({"prompt_sha256": hash_prompt(prompt), "response": prompt}).encode() + b"\n"


BAD = make_line("a") + b"oops\n\n" + make_line("b") + make_line("a") + b"{}\n" + make_line("c")[:9]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(BAD)
    return path


def invoke(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["journal", "check", *map(str, args)])
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def test_problems_are_named_by_line(path: Path) -> None:
    problems = list(check_journal(path))
    assert [(problem.line, problem.kind) for problem in problems] == [
        (2, "bad"),
        (5, "duplicate"),
        (6, "bad"),
        (7, "cut off"),
    ]
    assert "not JSON" in problems[0].detail and problems[1].detail == "of line 1"


def test_the_command_reports_and_repairs(path: Path) -> None:
    code, out, err = invoke(path)
    assert code == 1
    assert out.split("\n")[:2] == [
        "line 2: bad: this is not JSON (Expected object or value): 'oops\\n'",
        "line 5: duplicate: of line 1",
    ]
    assert "2 bad, 1 duplicate, 1 cut off" in err
    assert path.read_bytes() == BAD
    repaired = path.with_name("repaired.jsonl")
    code, out, err = invoke(path, "--repair", repaired, "--show", 1)
    assert code == 0 and "Wrote" in out
    assert "line 2" in out and "line 5" not in out and "1 duplicate" in err
    assert repaired.read_bytes() == make_line("a") + make_line("b")
    assert path.read_bytes() == BAD
    assert invoke(repaired)[0] == 0


def test_a_repaired_journal_replaces_nothing(path: Path) -> None:
    code, _, err = invoke(path, "--repair", path)
    assert code == 1 and "already" in err
    assert path.read_bytes() == BAD and list(path.parent.iterdir()) == [path]
    code, _, err = invoke(path.with_name("nope.jsonl"))
    assert code == 1 and "nope.jsonl" in err


@settings(deadline=None)
@given(st.lists(st.binary() | st.sampled_from("abc").map(make_line)))
def test_whatever_a_journal_holds_its_copy_can_be_replayed(parts: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path, repaired = (Path(folder) / name for name in ("journal.jsonl", "repaired.jsonl"))
        path.write_bytes(b"".join(parts))
        bad = {problem.line for problem in check_journal(path, repaired)}
        assert list(check_journal(repaired)) == []
        kept = [
            line
            for number, line in enumerate(path.read_bytes().split(b"\n"), start=1)
            if number not in bad and line.strip()
        ]
        assert repaired.read_bytes() == b"".join(line + b"\n" for line in kept)
        warnings.simplefilter("error")
        with JournalIndex(repaired) as index:
            assert index.records == len(index) == len(kept)
            for line in set(parts) & {line + b"\n" for line in kept}:
                record = json.loads(line)
                assert index.find(record["prompt_sha256"]) == record
