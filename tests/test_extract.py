import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import spacy
from metaie.docbin import write_docbin
from metaie.extract import extract, load_pipeline, make_record, read_texts
from metaie.spans import get_queries, has_queries, set_answers, set_queries
from spacy.language import Language
from spacy.tokens import Doc, Span

PARAGRAPH = "Ada Lovelace met Charles Babbage in London in 1833."


def run(
    capsys: pytest.CaptureFixture[str], model: Path, paths: Iterable[Path], **settings: Any
) -> list[dict[str, Any]]:
    count = extract(str(model), paths, **settings)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == count
    return rows


def labels_of(row: dict[str, Any]) -> set[str]:
    return {span["label"] for span in row["spans"]}


def test_spans_are_those_of_the_pipeline(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(PARAGRAPH)
    [row] = run(capsys, tiny_model_dir, [path])
    doc = spacy.load(tiny_model_dir)(PARAGRAPH)
    expected = sorted(
        (span.start_char, span.end_char, span.label_, round(float(score), 4))
        for span, score in zip(
            doc.spans["metaie"], doc.spans["metaie"].attrs["scores"], strict=True
        )
    )
    assert expected
    assert row["text"] == PARAGRAPH
    assert [(s["start"], s["end"]) for s in row["spans"]] == [(s[0], s[1]) for s in expected]
    assert sorted((s["start"], s["end"], s["label"], s["score"]) for s in row["spans"]) == expected
    assert all(PARAGRAPH[s["start"] : s["end"]] == s["text"] for s in row["spans"])


def test_labels_and_threshold_of_the_call_win_over_the_pipelines(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(PARAGRAPH)
    assert labels_of(run(capsys, tiny_model_dir, [path])[0]) == {"Person", "City"}
    assert labels_of(run(capsys, tiny_model_dir, [path], labels=["Date"])[0]) == {"Date"}
    assert labels_of(run(capsys, tiny_model_dir, [path], threshold=1.0)[0]) == set()


def test_text_is_read_line_by_line_or_whole(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.md"
    path.write_bytes("One 😀\r\n \n\nשתיים\n".encode())
    texts = [row["text"] for row in run(capsys, tiny_model_dir, [path])]
    assert texts == ["One 😀", "שתיים"]
    [row] = run(capsys, tiny_model_dir, [path], whole_files=True)
    assert row["text"] == "One 😀\n \n\nשתיים"


def test_rows_bring_queries_and_other_keys(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"id": 1, "text": PARAGRAPH, "queries": ["Date "], "spans": ["old"], "meta": {"a": [None]}},
        {"id": 2, "text": PARAGRAPH},
        {"id": 3, "text": ""},
        {"id": 4, "text": PARAGRAPH, "queries": []},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    first, second, empty, unasked = run(capsys, tiny_model_dir, [path], labels=["Person"])
    assert (first["id"], first["meta"], labels_of(first)) == (1, {"a": [None]}, {"Date"})
    assert (second["id"], labels_of(second)) == (2, {"Person"})
    assert empty == {"text": "", "spans": [], "id": 3}
    assert unasked["spans"] == []


def test_docbins_are_read_with_their_queries(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nlp = spacy.blank("en")
    own, bare = nlp.make_doc(PARAGRAPH), nlp.make_doc(PARAGRAPH)
    set_queries(own, ["Date"])
    own.user_data["id"] = "d1"
    write_docbin(tmp_path / "docs" / "a.spacy", [own, bare])
    first, second = run(capsys, tiny_model_dir, [tmp_path / "docs"])
    assert (first["id"], labels_of(first)) == ("d1", {"Date"})
    assert labels_of(second) == {"Person", "City"}


def test_two_processes_give_what_one_gives(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"id": i, "text": f"{PARAGRAPH} {i}", "queries": ["Date"]} for i in range(5)]
    path.write_text("\n".join(map(json.dumps, rows)))
    one = run(capsys, tiny_model_dir, [path], batch_size=2)
    two = run(capsys, tiny_model_dir, [path], batch_size=2, n_process=2)
    assert [row["id"] for row in two] == [0, 1, 2, 3, 4]
    assert [[(s["start"], s["end"]) for s in row["spans"]] for row in two] == [
        [(s["start"], s["end"]) for s in row["spans"]] for row in one
    ]


def test_standard_input(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def give(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    give("one\ntwo\n")
    assert [row["text"] for row in run(capsys, tiny_model_dir, [Path("-")])] == ["one", "two"]
    give('{"text": "three"}')
    rows = run(capsys, tiny_model_dir, [Path("-")], input_format="jsonl")
    assert [row["text"] for row in rows] == ["three"]
    with pytest.raises(ValueError, match="standard input"):
        extract(str(tiny_model_dir), [Path("-")], input_format="spacy")


def test_output_goes_to_a_file_that_is_no_input(tiny_model_dir: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "a.txt", tmp_path / "new" / "b.jsonl"
    path.write_text(PARAGRAPH)
    assert extract(str(tiny_model_dir), [path], output=output) == 1
    assert json.loads(output.read_text())["text"] == PARAGRAPH
    with pytest.raises(ValueError, match="also an input"):
        extract(str(tiny_model_dir), [path], output=path)
    assert path.read_text() == PARAGRAPH


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": ', r"a\.jsonl, line 2: this is not JSON"),
        ("a.jsonl", b'{"body": "a"}', r"a\.jsonl, line 1: the key 'text' is missing"),
        ("a.jsonl", b'{"text": "a", "queries": [1]}', "a label is not a string: 1"),
        ("a.txt", b"fine\ncaf\xe9\n", r"a\.txt, line 2: this is not UTF-8 \(byte 0xe9 at 3\)"),
        ("a.spacy", b"no", r"a\.spacy' is not a DocBin"),
    ],
)
def test_bad_input_is_named(
    tiny_model_dir: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        extract(str(tiny_model_dir), [tmp_path / name])


def test_it_must_be_known_what_to_ask(tiny_pipeline: Language, tmp_path: Path) -> None:
    tiny_pipeline.get_pipe("metaie").labels = []  # type: ignore[attr-defined]
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "queries": ["x"]}\n{"text": "b"}')
    texts = read_texts(path, tiny_pipeline, "metaie")
    assert get_queries(next(texts)[0]) == ["x"]
    with pytest.raises(ValueError, match=r"line 2: it is not known what to look for: .*--label"):
        next(texts)


def test_docs_bring_no_queries_unless_their_rows_do(
    tiny_pipeline: Language, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    [(doc, extra)] = read_texts(path, tiny_pipeline, "metaie")
    assert not has_queries(doc)
    assert extra == {}


def test_files_are_looked_for_before_the_pipeline_is_loaded() -> None:
    with pytest.raises(FileNotFoundError, match=r"nope\.txt"):
        extract("no such pipeline", [Path("nope.txt")])


def test_processes_cannot_share_a_gpu(tiny_model_dir: Path) -> None:
    with pytest.raises(ValueError, match="2 processes can't share a GPU"):
        extract(str(tiny_model_dir), [Path("-")], n_process=2, gpu_id=0)


def test_pipelines_that_cannot_be_used(tmp_path: Path, tiny_model_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"pipeline 'en_nope': .*weasel run all"):
        load_pipeline("en_nope")
    with pytest.raises(ValueError, match="Can't load the pipeline"):
        load_pipeline(str(tmp_path))
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(ValueError, match="has no metaie component"):
        load_pipeline(str(tmp_path / "blank"))
    with pytest.raises(ValueError, match="between 0 and 1"):
        load_pipeline(str(tiny_model_dir), threshold=2)
    with pytest.raises(ValueError, match="is empty"):
        load_pipeline(str(tiny_model_dir), labels=[" "])


def test_spans_are_sorted_and_scores_rounded() -> None:
    doc: Doc = spacy.blank("en").make_doc("a b c")
    spans = [Span(doc, 2, 3, label="x"), Span(doc, 0, 2, label="y"), Span(doc, 0, 1, label="x")]
    set_answers(doc, spans, ["x", "y"], [0.123456, 0.5, 1.0])
    record = make_record(doc, "metaie", {"id": 1})
    assert [(s["start"], s["end"], s["score"]) for s in record["spans"]] == [
        (0, 1, 1.0),
        (0, 3, 0.5),
        (4, 5, 0.1235),
    ]
    assert list(record) == ["text", "spans", "id"]


def test_gold_structures_are_not_passed_off_as_found(tiny_model_dir: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "Ada met Bob.", "relations": [{"head": 0, "tail": 1}], "id": 7}\n')
    extract(str(tiny_model_dir), [source], output=output)
    record = json.loads(output.read_text())
    assert record["id"] == 7
    assert "relations" not in record
