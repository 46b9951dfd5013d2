from pathlib import Path

import pytest
import spacy
from local_model import read_asked, write_config
from metaie.cli import app
from metaie.inputs import Inputs
from metaie.preview import find_flaws, preview
from metaie.teacher.pipeline import Teacher
from typer.testing import CliRunner


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"Ada met person {i:02} in London.\n" for i in range(40)))
    return path


def test_a_few_are_asked_and_shown(tmp_path: Path, texts: Path) -> None:
    arguments = ["annotate", texts, "-o", tmp_path / "out", "-c", write_config(tmp_path)]
    arguments += ["--sample", "3"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    asked = read_asked(tmp_path)
    assert len(asked) == 3
    for text in asked:
        marked = text.replace("Ada", "[Ada](Person)").replace("London", "[London](City)")
        assert text in result.output and marked in result.output
    assert "3 of 3: texts-" in result.output
    assert "You read a text" in result.output
    assert "Date: none" in result.output
    assert "1 of 4 lines not placed: 1 not in text" in result.output
    assert "\x1b" not in result.output
    assert not (tmp_path / "out").exists()
    # The same ones again, from the journal.
    again = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert again.output == result.output
    assert read_asked(tmp_path) == asked


def test_labels_left_unknown_are_shown() -> None:
    doc = spacy.blank("en")("Ada left.")
    assert not list(find_flaws(doc))
    doc.user_data["metaie_unknown"] = ["City", "Date \x1b[31m"]
    assert list(find_flaws(doc)) == [r"It is not known what answers: City, Date \x1b[31m"]


def test_colours_and_control_characters(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Ada \x1b[31m left.\nFAIL\nCUT\n")
    teacher = Teacher(write_config(tmp_path, journal=False))
    shown = "\n".join(preview(teacher, Inputs([tmp_path / "a.txt"]), 9, color=True))
    assert "\x1b[" in shown
    assert "\x1b[31m left" not in shown and r"\x1b[31m left" in shown
    assert "There is no answer: failed" in shown
    assert "The answer is not whole: cut off" in shown
