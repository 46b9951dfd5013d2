"""A record of a journal: an answer and the key of its prompt, a line of JSON."""

import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..rows import BadRow, parse_row
from .answer import OUTCOMES, Answer

KEY = re.compile(r"[0-9a-f]{64}")
# An answer that failed is none: its prompt is asked again.
RECORDED = tuple(outcome for outcome in OUTCOMES if outcome != "failed")
TOKENS = ("prompt_tokens", "completion_tokens")


def hash_prompt(prompt: str) -> str:
    """The key of a prompt: SHA-256, in hexadecimal."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def format_record(key: str, answer: Answer, teacher: str, time: str) -> bytes:
    """A record as a line, with its end. What is not known of an answer is left out.

    Raises BadRow if it could not be read again.
    """
    row = {"prompt_sha256": key, "response": str(answer), "teacher": teacher, "time": time}
    if answer.outcome != "ok":
        row["outcome"] = answer.outcome
    for name in (*TOKENS, "error"):
        if (value := getattr(answer, name)) is not None:
            row[name] = value
    line = json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"
    parse_record(line)  # what cannot be read again must not get into a journal
    return line


def parse_record(line: bytes) -> dict[str, Any]:
    """Read a line. Raises BadRow unless it is a record."""
    row = parse_row(line)
    key, response = row.get("prompt_sha256"), row.get("response")
    if not (isinstance(key, str) and isinstance(response, str)):
        raise BadRow("not a record", "it needs the strings 'prompt_sha256' and 'response'")
    if not KEY.fullmatch(key):
        raise BadRow("not a record", "'prompt_sha256' is not 64 hexadecimal digits")
    if len(row) > 2:
        _check_details(row)
    return row


def _check_details(row: dict[str, Any]) -> None:
    if (outcome := row.get("outcome", "ok")) not in RECORDED:
        raise BadRow("not a record", f"'outcome' is {outcome!r}, not one of {', '.join(RECORDED)}")
    for name in TOKENS:
        value = row.get(name)
        if value is not None and (type(value) is not int or value < 0):
            raise BadRow("not a record", f"{name!r} is {value!r}, not a number of tokens")
    for name in ("teacher", "time", "error"):
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise BadRow("not a record", f"{name!r} is {value!r}, not a string")


def make_answer(row: dict[str, Any]) -> Answer:
    """The answer of a record."""
    return Answer(
        row["response"],
        row.get("outcome", "ok"),
        row.get("prompt_tokens"),
        row.get("completion_tokens"),
        row.get("error"),
    )


def scan_lines(
    file: BinaryIO, offset: int = 0, number: int = 0
) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number, offset, line) of each line, from a place in a file.

    offset: where to begin, in bytes.
    number: how many lines are before it.

    The last line may lack its end; see `is_cut_off`.
    """
    file.seek(offset)
    for line in file:
        number += 1
        yield number, offset, line
        offset += len(line)


def read_records(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield (line, record) of a journal, in order.

    A last line that was cut off, as by a crash, is left out with a warning.

    Raises FileNotFoundError, or ValueError naming file and line of what is no record.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no journal at {str(path)!r}.")
    with path.open("rb") as file:
        for number, _, line in scan_lines(file):
            if is_cut_off(line):
                warn_of_cut_off(path, number, line)
            elif not line.isspace():
                try:
                    yield line.rstrip(b"\n") + b"\n", parse_record(line)
                except BadRow as err:
                    raise explain(err, path, number, line) from None


def is_cut_off(line: bytes) -> bool:
    """Whether a line lacks its end, and more than that: a part of an object is no JSON."""
    if line.endswith(b"\n"):
        return False
    try:
        parse_record(line)
    except BadRow:
        return True
    return False


def explain(err: BadRow, path: Path, number: int, line: bytes) -> ValueError:
    """The error for a line that is no record, with its place and what to do."""
    return ValueError(
        f"{path}, line {number} is not a record of a journal ({err}): {line[:80]!r}. Restore "
        "the file, or delete the line: its prompt is then asked again. `python -m metaie journal "
        "check --repair` writes a copy without such lines."
    )


def warn_of_cut_off(path: Path, number: int, line: bytes) -> None:
    """Warn of a last line without its end."""
    warnings.warn(
        f"{path}, line {number}: the last record was cut off after {len(line):,} bytes, and is "
        "left out. Its prompt counts as not answered.",
        stacklevel=2,
    )
