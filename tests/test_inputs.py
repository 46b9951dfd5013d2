from pathlib import Path

import pytest
from metaie.chunking import make_sentencizer
from metaie.inputs import Inputs, LeftOut

SENTENCES = "The quick brown fox jumps over the lazy dog near the river bank today. "


def test_each_text_is_given_once(tmp_path: Path) -> None:
    lines = ["Ada.", "Bob.", "", "Ada.", "\u3000", "ada.", SENTENCES * 3, SENTENCES * 3 + "Yes."]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    inputs = Inputs([tmp_path])
    assert [p.text for p in inputs] == ["Ada.", "Bob.", "ada.", lines[6], lines[7]]
    assert inputs.left_out == LeftOut(duplicates=1, empty=1)
    inputs = Inputs([tmp_path], near_duplicates=0.7)
    assert [p.id for p in inputs] == ["a-1", "a-2", "a-7"]
    assert inputs.left_out == LeftOut(duplicates=1, near_duplicates=2, empty=1)
    # It may be read again.
    assert len(list(inputs)) == 3
    assert inputs.left_out == LeftOut(duplicates=1, near_duplicates=2, empty=1)


def test_long_texts_are_cut_and_their_pieces_given_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"text": "It rained. Ada left. It rained. Bob came.", "id": "x"}\n{"text": " "}\n'
    )
    inputs = Inputs([tmp_path], max_length=3)
    assert [(p.id, p.text) for p in inputs] == [
        ("x#0", "It rained. "),
        ("x#1", "Ada left. "),
        ("x#3", "Bob came."),
    ]
    assert inputs.left_out == LeftOut(duplicates=1, empty=1)


def test_what_was_cut_leaves_no_words_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlp = make_sentencizer("en")
    monkeypatch.setattr("metaie.inputs.make_sentencizer", lambda lang: nlp)
    lines = [f"Ada met person{i}. Then she met other{i}." for i in range(500)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    before = len(nlp.vocab.strings)
    assert "".join(p.text for p in Inputs([tmp_path], max_length=5)) == "".join(lines)
    assert len(nlp.vocab.strings) < before + 100


def test_settings_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Ada.")
    with pytest.raises(ValueError, match="max_length must be 0 or more tokens, not -1"):
        Inputs([tmp_path], max_length=-1)
    with pytest.raises(ValueError, match=r"1\.5"):
        Inputs([tmp_path], near_duplicates=1.5)
    with pytest.raises(FileNotFoundError, match="missing"):
        Inputs([tmp_path, tmp_path / "missing"])
