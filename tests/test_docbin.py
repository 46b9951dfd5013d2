from collections.abc import Callable
from pathlib import Path

import pytest
import spacy
from metaie.docbin import find_docbins, read_docbin, write_docbin
from metaie.spans import get_queries, set_answers, set_queries
from spacy.tokens import Doc, DocBin, Span, SpanGroup
from spacy.vocab import Vocab

NLP = spacy.blank("en")


def make_docs(*texts: str) -> list[Doc]:
    docs = [NLP.make_doc(text) for text in texts]
    for doc in docs:
        set_queries(doc, ["Person", "City"])
    return docs


def test_docs_come_back_as_they_were_written(tmp_path: Path) -> None:
    [doc, empty] = make_docs("Ada met Bob 😀 שלום\u200b.", "")
    doc.user_data.update(id="d1", genre="news")
    set_answers(doc, [Span(doc, 0, 1, label="Person")], ["Person", "City"], [0.5])
    path = tmp_path / "new" / "a.spacy"
    assert write_docbin(path, [doc, empty]) == 2
    [back, back_empty] = read_docbin(path, Vocab())
    assert (back.text, back_empty.text) == (doc.text, "")
    assert (back.user_data["id"], back.user_data["genre"]) == ("d1", "news")
    assert get_queries(back) == get_queries(back_empty) == ["Person", "City"]
    assert [(s.text, s.label_) for s in back.spans["metaie"]] == [("Ada", "Person")]
    assert back.spans["metaie"].attrs["scores"] == [0.5]


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.spacy"
    write_docbin(path, make_docs("before"))

    def write_half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        write_docbin(path, make_docs("after"))
    assert [doc.text for doc in read_docbin(path, Vocab())] == ["before"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_read_file_by_file_in_order(tmp_path: Path) -> None:
    write_docbin(tmp_path / "b.spacy", make_docs("third"))
    write_docbin(tmp_path / "a" / "1.spacy", make_docs("first", "second"))
    (tmp_path / "notes.txt").write_text("not a DocBin")
    docs = read_docbin(tmp_path, Vocab())
    assert [doc.text for doc in docs] == ["first", "second", "third"]


CORRUPTIONS: list[Callable[[bytes], bytes]] = [
    lambda data: b"",
    lambda data: b"{}",
    lambda data: data[: len(data) // 2],
    lambda data: data[:40] + bytes([data[40] ^ 0xFF]) + data[41:],
    lambda data: bytes(1000),
]


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_a_corrupt_file_is_named(tmp_path: Path, corrupt: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "bad.spacy"
    path.write_bytes(corrupt(DocBin(docs=make_docs("Ada met Bob.")).to_bytes()))
    with pytest.raises(ValueError, match=r"bad\.spacy' is not a DocBin, or .*metaie convert"):
        list(read_docbin(path, Vocab()))


def test_strings_missing_from_the_file_are_an_error_too(tmp_path: Path) -> None:
    docbin = DocBin(docs=make_docs("Zyzzyva met Bob."))
    docbin.strings.discard("Zyzzyva")
    docbin.to_disk(tmp_path / "bad.spacy")
    with pytest.raises(ValueError, match=r"bad\.spacy' is not a DocBin"):
        list(read_docbin(tmp_path / "bad.spacy", Vocab()))


def test_docs_without_queries(tmp_path: Path) -> None:
    bare, spans_only = NLP.make_doc("bare"), NLP.make_doc("spans only")
    spans_only.spans["metaie"] = SpanGroup(spans_only, spans=[spans_only[0:1]])
    for doc, message in [(bare, "no span group 'metaie', but none"), (spans_only, "no queries")]:
        path = tmp_path / "a.spacy"
        write_docbin(path, [doc])
        with pytest.raises(ValueError, match=message) as error:
            list(read_docbin(path, Vocab()))
        assert "a.spacy" in str(error.value)
        assert "metaie convert" in str(error.value)
        [read] = read_docbin(path, Vocab(), require_queries=False)
        assert read.text == doc.text


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nope\.spacy"):
        find_docbins(tmp_path / "nope.spacy")
    with pytest.raises(ValueError, match=r"no \.spacy files"):
        find_docbins(tmp_path)
