from pathlib import Path

import pytest
from metaie.cli import app
from metaie.teacher.answer import Answer
from metaie.teacher.journal_stats import JournalStats, count_journal
from metaie.teacher.record import format_record, hash_prompt
from typer.testing import CliRunner

LINES = [
    format_record(hash_prompt("a"), Answer("A", "ok", 10, 2), "mini", "2026-01-02T00:00:00+00:00"),
    format_record(hash_prompt("b"), Answer("", "refused", 5), "mini", "2026-01-01T00:00:00+00:00"),
    format_record(hash_prompt("a"), Answer("A"), "maxi", "2026-01-03T00:00:00+00:00"),
    b'{"prompt_sha256": "%s", "response": "C"}\n' % hash_prompt("c").encode(),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(LINES) + b"{")
    return path


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_everything_is_counted(path: Path) -> None:
    assert count_journal(path) == JournalStats(
        records=4,
        duplicates=1,
        size=path.stat().st_size,
        cut_off=1,
        first="2026-01-01T00:00:00+00:00",
        last="2026-01-03T00:00:00+00:00",
        teachers={"mini": 2, "maxi": 1, "not known": 1},  # type: ignore[arg-type]
        outcomes={"ok": 3, "refused": 1},  # type: ignore[arg-type]
        tokens={"prompt_tokens": 15, "completion_tokens": 2},  # type: ignore[arg-type]
        counted=2,
    )


@pytest.mark.filterwarnings("ignore:.*cut off")
def test_the_command_shows_a_table(path: Path) -> None:
    result = CliRunner().invoke(app, ["journal", "stats", str(path)])
    assert result.exit_code == 0, result.output
    table = dict(line.rsplit("  ", 1) for line in result.stdout.split("\n") if "  " in line.strip())
    table = {name.strip(): number.strip() for name, number in table.items()}
    assert table["records"] == "4" and table["teacher: mini"] == "2"
    assert table["prompt tokens"] == "15" and table["records with tokens"] == "2"
    assert table["bytes cut off at the end"] == "1"
    path.write_bytes(LINES[3])
    result = CliRunner().invoke(app, ["journal", "stats", str(path)])
    assert result.stdout.count("not known") == 5  # times, teacher and tokens


def test_errors_name_the_file(path: Path) -> None:
    path.write_bytes(LINES[0] + b"oops\n" + LINES[1])
    for name, problem in (
        ("journal.jsonl", "line 2 is not a record"),
        ("nope.jsonl", "no journal"),
    ):
        result = CliRunner().invoke(app, ["journal", "stats", str(path.with_name(name))])
        assert result.exit_code == 1
        assert problem in " ".join(result.stderr.split()) and "Traceback" not in result.stderr
