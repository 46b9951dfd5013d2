import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.rows import BadRow
from metaie.teacher.answer import OUTCOMES, Answer
from metaie.teacher.record import (
    RECORDED,
    format_record,
    hash_prompt,
    make_answer,
    parse_record,
    read_records,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
TOKENS = st.none() | st.integers(0, 2**53)


def make_row(**changes: object) -> bytes:
    row = {"prompt_sha256": hash_prompt("a"), "response": "A", **changes}
    return json.dumps({key: value for key, value in row.items() if value is not ...}).encode()


@settings(deadline=None)
@given(TEXTS, st.sampled_from(RECORDED), TOKENS, TOKENS, st.none() | TEXTS, TEXTS)
def test_a_record_is_read_as_it_was_written(
    text: str,
    outcome: str,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    error: str | None,
    teacher: str,
) -> None:
    answer = Answer(text, outcome, prompt_tokens, completion_tokens, error)
    line = format_record(hash_prompt(text), answer, teacher, "2026-01-01T00:00:00+00:00")
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    row = parse_record(line)
    assert (row["prompt_sha256"], row["teacher"]) == (hash_prompt(text), teacher)
    read = make_answer(row)
    assert read == text
    for name in ("outcome", "prompt_tokens", "completion_tokens", "error"):
        assert getattr(read, name) == getattr(answer, name)


def test_what_is_not_known_is_left_out() -> None:
    row = json.loads(format_record(hash_prompt("a"), Answer("A"), "upper", "now"))
    assert sorted(row) == ["prompt_sha256", "response", "teacher", "time"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{broken", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"{}", "prompt_sha256"),
        (make_row(response=...), "response"),
        (make_row(response=3), "response"),
        (make_row(prompt_sha256="x"), "64 hexadecimal"),
        (make_row(prompt_sha256="A" * 64), "64 hexadecimal"),
        (make_row(outcome="failed"), "'failed'"),
        (make_row(outcome=["ok"]), "outcome"),
        (make_row(outcome=None), "outcome"),
        (make_row(prompt_tokens=-1), "'prompt_tokens' is -1"),
        (make_row(completion_tokens=True), "'completion_tokens' is True"),
        (make_row(prompt_tokens=1.5), "1.5"),
        (make_row(teacher=3), "'teacher' is 3"),
        (make_row(time=3), "'time' is 3"),
        (make_row(error=[]), "'error'"),
    ],
)
def test_what_is_no_record(line: bytes, problem: str) -> None:
    with pytest.raises(BadRow, match=problem):
        parse_record(line)


def test_an_outcome_is_one_of_those_known() -> None:
    assert {"failed", *RECORDED} == set(OUTCOMES)
    with pytest.raises(ValueError, match="'fine'"):
        Answer("A", "fine")


def test_a_journal_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with pytest.raises(FileNotFoundError, match=r"journal\.jsonl"):
        list(read_records(path))
    path.write_bytes(make_row() + b"\n \n" + make_row(response="B", id="b-1") + b"\n{")
    with pytest.warns(UserWarning, match="line 4.*cut off after 1 bytes"):
        records = list(read_records(path))
    assert [row["response"] for _, row in records] == ["A", "B"]
    assert records[0][0] == make_row() + b"\n"
    path.write_bytes(make_row() + b"\n\noops\n")
    with pytest.raises(ValueError, match=r"line 3 is not a record.*--repair"):
        list(read_records(path))
