import io
from pathlib import Path

import pytest
from metaie.rows import (
    STDIN,
    BadRow,
    check_label,
    decode_line,
    get_text,
    parse_row,
    read_labels,
    read_lines,
)


def test_lines_are_numbered_and_lose_their_ends_and_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\ntwo\xe2\x80\xa8still two\nthree")
    assert list(read_lines(path)) == [
        (1, b"one"),
        (2, b""),
        (3, "two\u2028still two".encode()),
        (4, b"three"),
    ]


@pytest.mark.parametrize("name", ["x:y.txt", "s3:a.txt", "a#b?c=%20.txt", "~a.txt"])
def test_any_name_is_that_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("One.")
    assert list(read_lines(Path(name))) == [(1, b"One.")]


def test_lines_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("é\n".encode())))
    assert [(n, decode_line(line)) for n, line in read_lines(STDIN)] == [(1, "é")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": ', "not JSON"),
        (b"-", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"text": "\xff"}', "not UTF-8"),
    ],
)
def test_a_line_that_is_no_row(line: bytes, reason: str) -> None:
    with pytest.raises(BadRow) as error:
        parse_row(line)
    assert error.value.reason == reason
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"body": "x"}, "'text' is missing among ['body']"),
        ({"text": None}, "text is not a string: None"),
        ({"text": "a\ud800"}, "lone surrogate"),
    ],
)
def test_a_row_without_a_proper_text(row: dict[str, object], message: str) -> None:
    with pytest.raises(BadRow) as error:
        get_text(row)
    assert message in str(error.value)


def test_an_error_names_the_place() -> None:
    error = BadRow("not JSON", "it is broken", offset=2).at(Path("a.jsonl"), 5)
    assert str(error) == "a.jsonl, line 7: it is broken"
    assert error.reason == "not JSON"
    assert str(error.at(STDIN, 1)).startswith("standard input, line 1: ")


@pytest.mark.parametrize("label", ["", " \n", 3, None, "\ud800"])
def test_labels_that_cannot_be_asked(label: object) -> None:
    with pytest.raises(BadRow):
        check_label(label)


def test_labels_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Person\n\n  \nReason for the delay\n", encoding="utf-8")
    (tmp_path / "a.json").write_text('["Person", "Reason for the delay"]', encoding="utf-8")
    expected = ["Person", "Reason for the delay"]
    assert read_labels(tmp_path / "a.txt") == read_labels(tmp_path / "a.json") == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\n", "no labels in"),
        ("a.json", b'{"a": 1}', "no labels in"),
        ("a.json", b"[3]", "no labels in"),
        ("a.json", b"[", r"Can't read labels from .*a\.json"),
        ("a.txt", b"caf\xe9", r"Can't read labels from .*a\.txt: this is not UTF-8"),
    ],
)
def test_a_file_without_labels(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / name)
