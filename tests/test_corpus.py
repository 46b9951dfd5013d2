from pathlib import Path

import pytest
import spacy
from conftest import annotate
from metaie.corpus import create_corpus
from metaie.spans import get_queries
from spacy.tokens import DocBin

NLP = spacy.blank("en")


def test_predicted_docs_bring_the_queries_but_no_answers(tmp_path: Path) -> None:
    doc = annotate(NLP("Ada met Charles."), {"Person": ["Ada"], "City": []})
    DocBin(docs=[doc]).to_disk(tmp_path / "a.spacy")
    (eg,) = create_corpus(tmp_path / "a.spacy")(NLP)
    assert get_queries(eg.predicted) == get_queries(eg.reference) == ["Person", "City"]
    assert len(eg.reference.spans["metaie"]) == 1 and not eg.predicted.spans["metaie"]


def test_directories_and_limits(tmp_path: Path) -> None:
    for name in "ab":
        docs = [annotate(NLP(f"{name} {i}"), {"Person": [name]}) for i in range(3)]
        DocBin(docs=docs).to_disk(tmp_path / f"{name}.spacy")
    assert len(list(create_corpus(tmp_path)(NLP))) == 6
    assert len(list(create_corpus(tmp_path / "a.spacy", limit=2)(NLP))) == 2


def test_long_docs_are_left_out_and_damaged_files_named(tmp_path: Path) -> None:
    docs = [annotate(NLP("a " * n), {"Letter": ["a"]}) for n in (3, 9, 4)]
    DocBin(docs=docs).to_disk(tmp_path / "a.spacy")
    lengths = [len(eg.reference) for eg in create_corpus(tmp_path, max_length=4)(NLP)]
    assert lengths == [3, 4]
    (tmp_path / "b.spacy").write_bytes((tmp_path / "a.spacy").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"b\.spacy"):
        list(create_corpus(tmp_path)(NLP))


def test_docs_without_the_group_are_refused(tmp_path: Path) -> None:
    DocBin(docs=[NLP("Ada met Charles.")]).to_disk(tmp_path / "a.spacy")
    with pytest.raises(ValueError, match="metaie convert"):
        list(create_corpus(tmp_path / "a.spacy")(NLP))


def test_missing_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"paths\.train"):
        create_corpus(None)
    with pytest.raises(ValueError, match="weasel run annotate"):
        create_corpus(tmp_path / "none.spacy")
