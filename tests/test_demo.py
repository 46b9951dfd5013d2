from pathlib import Path

import pytest
from metaie.demo import PASSAGES, demo
from metaie.spans import get_queries
from spacy.language import Language


def test_the_passages_are_printed_and_written(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = demo(str(tiny_model_dir), output=tmp_path / "new" / "demo.html")
    printed = capsys.readouterr().out
    html = (tmp_path / "new" / "demo.html").read_text(encoding="utf-8")
    assert [(doc.text, get_queries(doc)) for doc in docs] == PASSAGES
    for _, queries in PASSAGES:
        for label in queries:
            assert f"  {label}: " in printed
            assert f"<bdi>{label}</bdi>" in html
    assert html.count("<section") == len(PASSAGES)
    assert "\x1b" not in printed


def test_a_text_and_labels_of_ones_own(
    tiny_model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [doc] = demo(str(tiny_model_dir), text="Ada met Bob.")
    assert get_queries(doc) == ["Person", "City"]
    [doc] = demo(str(tiny_model_dir), text="Ada met Bob.", labels=["Date"])
    assert get_queries(doc) == ["Date"]
    assert "  Date: " in capsys.readouterr().out
    docs = demo(str(tiny_model_dir), labels=["Date"])
    assert {tuple(get_queries(doc)) for doc in docs} == {("Date",)}


def test_a_text_needs_a_label(tiny_pipeline: Language, tmp_path: Path) -> None:
    tiny_pipeline.get_pipe("metaie").labels = []  # type: ignore[attr-defined]
    tiny_pipeline.to_disk(tmp_path)
    with pytest.raises(ValueError, match="--label"):
        demo(str(tmp_path), text="Ada met Bob.")
