"""Lines of files: read with their numbers, so that an error can name the place."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import smart_open
import srsly

from .spans import clean_label

STDIN = Path("-")
COMPRESSED = (".gz", ".zst")


class BadRow(ValueError):
    """A row that cannot be used.

    reason: what is wrong, in words that many rows can share, for counting.
    offset: the line within the row, from 0, for rows of several lines.
    """

    def __init__(self, reason: str, detail: str, offset: int = 0) -> None:
        super().__init__(detail)
        self.reason = reason
        self.offset = offset

    def at(self, path: Path, number: int, unit: str = "line") -> "BadRow":
        """The same error, naming the file and the line (or doc) where the row begins."""
        place = f"{describe(path)}, {unit} {number + self.offset}"
        return BadRow(self.reason, f"{place}: {self}")


def describe(path: Path) -> str:
    """The path as a message shows it."""
    return "standard input" if path == STDIN else str(path)


def get_format(path: Path) -> str:
    """The ending that says what a file holds: ".jsonl" for "a.jsonl" and "A.JSONL.gz"."""
    path = Path(path.name.lower())
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) from 1, of a file or of standard input, without their ends.

    A file that ends with .gz or .zst is decompressed on the way. Lines stay bytes, so that
    one line that is not UTF-8 costs no other. Raises ValueError, with the number of lines
    before, where a compressed file is damaged or cut off.
    """
    number = 0
    with _open(path) as lines:
        while True:
            try:
                line = next(lines, None)
            except Exception as err:
                # Each way of compressing has errors of its own, and none names the file.
                if path.suffix.lower() not in COMPRESSED:
                    raise
                raise ValueError(
                    f"{path} can't be decompressed after line {number} ({err}): it is damaged, "
                    "cut off, or not what its name says. Make or fetch it again."
                ) from err
            if line is None:
                return
            number += 1
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def _open(path: Path) -> AbstractContextManager[IO[bytes]]:
    if path == STDIN:
        return nullcontext(sys.stdin.buffer)
    try:
        # Absolute, since the name "x:y.txt" would be an address at a service called "x".
        return smart_open.open(path.absolute(), "rb")
    except ImportError as err:
        raise ValueError(
            f'{path} is compressed with Zstandard, which needs: pip install "metaie[annotate]"'
        ) from err


def decode_line(line: bytes) -> str:
    """Decode UTF-8. Raises BadRow."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as err:
        raise BadRow(
            "not UTF-8",
            f"this is not UTF-8 (byte {err.object[err.start]:#04x} at {err.start}). Convert the "
            "file first, for instance with `iconv -f latin1 -t utf-8`.",
        ) from None


def parse_row(line: bytes) -> dict[str, Any]:
    """Read one line of JSONL. Raises BadRow unless it is a JSON object."""
    text = decode_line(line)
    try:
        row = srsly.json_loads(text)
    except ValueError as err:
        raise BadRow("not JSON", f"this is not JSON ({err}): {shorten(text)}") from None
    if not isinstance(row, dict):
        raise BadRow("not a JSON object", f"this is not a JSON object: {shorten(text)}")
    return row


def get_text(row: dict[str, Any], name: str = "text") -> str:
    """The row's text, under "text" or another name. Raises BadRow if it has none."""
    if name not in row:
        raise BadRow("no text", f"the key {name!r} is missing among {shorten(sorted(row))}.")
    return check_unicode(row[name], name)


def get_row_queries(row: dict[str, Any], name: str = "queries") -> list[str]:
    """The labels under the row's "queries", or another name, cleaned, each once. Raises BadRow."""
    labels = [check_label(label) for label in check_list(row.get(name, []), name)]
    return list(dict.fromkeys(labels))


def check_list(value: object, name: str) -> list[Any]:
    """Raise BadRow unless the value is a list."""
    if not isinstance(value, list):
        raise BadRow(f"{name} is not a list", f"{name!r} is not a list: {shorten(value)}")
    return value


def check_label(value: object) -> str:
    """The label, cleaned. Raises BadRow unless it is a string with something in it."""
    try:
        return clean_label(check_unicode(value, "a label"))
    except BadRow:
        raise
    except ValueError as err:
        raise BadRow("empty label", str(err)) from None


def check_unicode(value: object, name: str) -> str:
    """Raise BadRow unless the value is a string of whole characters."""
    if not isinstance(value, str):
        raise BadRow(f"{name} is not a string", f"{name} is not a string: {shorten(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRow(
            f"{name} has half a character", f"{name} has a lone surrogate: {shorten(value)}"
        ) from None
    return value


def read_labels(path: Path) -> list[str]:
    """Read labels from a file: one a line, or a JSON list where its name ends with .json.

    Raises ValueError if it holds none.
    """
    try:
        if path.suffix == ".json":
            labels = srsly.read_json(path)
        else:
            lines = decode_line(b"\n".join(line for _, line in read_lines(path)))
            labels = [line for line in lines.split("\n") if line.strip()]
    except ValueError as err:
        raise ValueError(f"Can't read labels from {path}: {err}") from err
    if not isinstance(labels, list) or not labels or not all(isinstance(x, str) for x in labels):
        raise ValueError(
            f"There are no labels in {path}: write one a line, or a JSON list of strings into a "
            "file that ends with .json."
        )
    return labels


def shorten(value: object, width: int = 80) -> str:
    """The value as code shows it, cut to `width` characters."""
    shown = value if isinstance(value, str) else repr(value)
    shown = shown if len(shown) <= width else f"{shown[: width - 1]}…"
    return repr(shown) if isinstance(value, str) else shown
