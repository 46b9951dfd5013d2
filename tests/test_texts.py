import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import smart_open
import spacy
from metaie.docbin import write_docbin
from metaie.texts import Passage, find_texts, read_passages

ROWS = [
    {"text": "One.", "genre": "news", "id": "a", "queries": ["Person", "Reason  for it"]},
    {"text": "Zwei – 二.", "genre": None, "id": 7, "queries": None},
    {"text": "Three.", "genre": "mail", "id": None},
]
PASSAGES = [
    Passage("One.", "news", "a", queries=("Person", "Reason for it")),
    Passage("Zwei – 二.", "t", "7"),
    Passage("Three.", "mail", "t-3"),
]


def write_jsonl(path: Path) -> None:
    with smart_open.open(path, "wb") as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in ROWS).encode())


def write_parquet(path: Path) -> None:
    rows = [{**row, "id": None if row["id"] is None else str(row["id"])} for row in ROWS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)


def write_docs(path: Path) -> None:
    nlp = spacy.blank("en")
    docs = [nlp(row["text"]) for row in ROWS]
    for doc, row in zip(docs, ROWS, strict=True):
        doc.user_data = {name: row[name] for name in ("genre", "id") if row[name] is not None}
        doc._.queries = row.get("queries") or []
    write_docbin(path, docs)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.jsonl", write_jsonl),
        ("t.jsonl.gz", write_jsonl),
        ("t.jsonl.zst", write_jsonl),
        ("t.parquet", write_parquet),
        ("t.spacy", write_docs),
    ],
)
def test_all_formats_hold_the_same(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    assert list(read_passages([tmp_path / name])) == PASSAGES
    assert list(read_passages([tmp_path])) == PASSAGES


def test_text_files_have_a_text_a_line(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfOne.\r\n\nTwo."
    expected = [Passage("One.", "news", "news-1"), Passage("Two.", "news", "news-3")]
    (tmp_path / "news.txt").write_bytes(data)
    assert list(read_passages([tmp_path])) == expected
    for ending in (".gz", ".zst"):
        with smart_open.open(tmp_path / f"news.txt{ending}", "wb") as file:
            file.write(data)
        assert list(read_passages([tmp_path / f"news.txt{ending}"])) == expected


def test_the_text_may_be_called_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "One."}\n')
    table = pyarrow.table({"body": pyarrow.array(["Two."], pyarrow.large_string()), "n": [1]})
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    texts = [passage.text for passage in read_passages([tmp_path], text_field="body")]
    assert texts == ["One.", "Two."]
    for name, problem in (("a.jsonl", "'text' is missing"), ("b.parquet", "no column 'text'")):
        with pytest.raises(ValueError, match=problem) as caught:
            list(read_passages([tmp_path / name]))
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{nope", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"txt": "a"}', "'text' is missing"),
        (b'{"text": 3}', "text is not a string"),
        (b'{"text": "a", "genre": 3}', "genre is not a string"),
        (b'{"text": "a", "id": 0.5}', "id is not a string"),
        (b'{"text": "a", "queries": "Person"}', "'queries' is not a list"),
        (b'{"text": "a", "queries": [""]}', "is empty"),
        (b'{"text": "\\ud800"}', "lone surrogate"),
        (b"\xff", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_bad_row_is_named(tmp_path: Path, line: bytes, problem: str, ending: str) -> None:
    file = tmp_path / f"texts.jsonl{ending}"
    with smart_open.open(file, "wb") as out:
        out.write(b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(ValueError, match=problem) as caught:
        list(read_passages([file]))
    assert f"{file}, line 2" in str(caught.value)


def test_a_bad_row_of_parquet_is_named(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["fine", None]}), file)
    with pytest.raises(ValueError, match=r"t\.parquet, row 2: text is not a string: None"):
        list(read_passages([file]))


def test_a_bad_doc_is_named(tmp_path: Path) -> None:
    doc = spacy.blank("en")("Ada.")
    doc.user_data["id"] = ["x"]
    write_docbin(tmp_path / "t.spacy", [doc])
    with pytest.raises(ValueError, match=r"t\.spacy, doc 1: id is not a string"):
        list(read_passages([tmp_path]))


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_damaged_compressed_files_are_named(tmp_path: Path, ending: str) -> None:
    whole = tmp_path / f"whole.txt{ending}"
    with smart_open.open(whole, "wb") as file:
        file.write("".join(f"Line {i}.\n" for i in range(5000)).encode())
    data = whole.read_bytes()
    for name, damaged in {"cut": data[: len(data) // 2], "noise": b"no such thing"}.items():
        path = tmp_path / f"{name}.txt{ending}"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name}.*can't be decompressed after line"):
            list(read_passages([path]))


def test_what_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"a\.parquet can't be read as Parquet"):
        list(read_passages([tmp_path]))


def test_no_texts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        find_texts(tmp_path / "missing")
    with pytest.raises(ValueError, match="no files that end"):
        find_texts(tmp_path)
    for name in ("a.csv", "a.parquet.gz", "a.gz"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=name):
            find_texts(tmp_path / name)


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "deep/a.jsonl", "a.txt.gz", "notes.md"):
        (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    found = [path.relative_to(tmp_path).as_posix() for path in find_texts(tmp_path)]
    assert found == ["a.txt.gz", "b.txt", "deep/a.jsonl"]


def test_folders_may_be_called_like_files(tmp_path: Path) -> None:
    for folder in ("dump.parquet", "notes.txt"):
        (tmp_path / "in" / folder).mkdir(parents=True)
    write_parquet(tmp_path / "in" / "dump.parquet" / "part-0.snappy.parquet")
    (tmp_path / "in" / "dump.parquet" / "_SUCCESS").touch()
    assert len(list(read_passages([tmp_path / "in"]))) == 3
    assert len(list(read_passages([tmp_path / "in" / "dump.parquet"]))) == 3


def test_ids_tell_files_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/x/part.txt", "in/y/part.txt.gz", "in/a.txt", "in/a.jsonl", "in/b.jsonl"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        data = b'{"text": "One."}' if "jsonl" in name else b"One."
        Path(name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    write_parquet(Path("in/x/c.parquet"))
    write_docs(Path("in/x/d.spacy"))

    def read(*paths: str) -> list[tuple[str, str]]:
        return [(p.id, p.genre) for p in read_passages(map(Path, paths)) if p.id not in "a7"]

    assert read("in") == [
        # What is called alike but for the ending has it.
        ("a.jsonl-1", "a"),
        ("a.txt-1", "a"),
        ("b-1", "b"),
        ("x/c-3", "mail"),
        ("x/d-3", "mail"),
        ("x/part-1", "part"),
        ("y/part-1", "part"),
    ]
    assert read("in/x/part.txt", "in/y/part.txt.gz", "in/b.jsonl") == [
        ("x/part.txt-1", "part"),
        ("y/part.txt.gz-1", "part"),
        ("b-1", "b"),
    ]
    assert read("in/y/part.txt.gz") == read("in/y") == [("part-1", "part")]


def test_what_was_made_before_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.")
    write_docs(tmp_path / "out" / "train.spacy")
    write_docs(tmp_path / "mine.spacy")
    found = find_texts(tmp_path, output=tmp_path / "out")
    assert [path.name for path in found] == ["a.txt", "mine.spacy"]
    # Whoever names it means it.
    assert find_texts(tmp_path / "out" / "train.spacy", output=tmp_path / "out")
