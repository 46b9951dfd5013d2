import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import spacy
from metaie import __version__
from metaie.loading import load_pipeline
from metaie.package import equal, make_card, package, predict_checks, verify

METRICS = {
    "f": 0.612, "p": 0.65, "r": 0.58, "macro_f": 0.4, "false_answers": 0.15,
    "docs": 524, "queries": 4127, "absences": 480,
}  # fmt: skip


def test_the_wheel_holds_a_pipeline_that_answers_as_before(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    import srsly

    srsly.write_json(tmp_path / "metrics.json", METRICS)
    wheel = package(tiny_model_dir, tmp_path, metrics=tmp_path / "metrics.json", version="1.2.3")
    assert wheel.name == "en_metaie-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    folder = tmp_path / "site" / "en_metaie" / "en_metaie-1.2.3"
    nlp = spacy.load(folder)
    assert nlp.meta["performance"]["spans_metaie_f"] == 0.612
    assert f"metaie>={__version__}" in nlp.meta["requirements"]
    assert "| F1, micro, exact spans | 61.2 |" in (folder / "README.md").read_text("utf8")
    want, got = predict_checks(load_pipeline(str(tiny_model_dir))), predict_checks(nlp)
    assert any(want)
    spans = [[[a[:3] for a in answers] for answers in side] for side in (want, got)]
    assert spans[0] == spans[1]
    size = (folder / "metaie" / "model").stat().st_size
    assert size < 0.8 * (tiny_model_dir / "metaie" / "model").stat().st_size


def test_answers_differ_by_spans_and_by_more_than_rounding() -> None:
    answers = [["City", 3, 9, 0.8]]
    assert equal(answers, [["City", 3, 9, 0.8005]])
    assert not equal(answers, [["City", 3, 9, 0.7]])
    assert not equal(answers, [["City", 3, 8, 0.8]])
    assert not equal(answers, [])


def test_the_card_says_when_nothing_was_measured(tiny_model_dir: Path) -> None:
    card = make_card(load_pipeline(str(tiny_model_dir)), {}, "metaie", "1.0")
    assert "It was not evaluated" in card
    assert 'spacy.load("en_metaie")' in card


def test_missing_wheels_are_named(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weasel run package"):
        verify(tiny_model_dir, tmp_path)


@pytest.mark.parametrize("module", ["metaie", "metaie.cli"])
def test_imports_are_light(module: str) -> None:
    heavy = "('torch', 'spacy', 'transformers')"
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
