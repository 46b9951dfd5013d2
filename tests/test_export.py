from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import spacy
from conftest import SENTENCES, make_examples
from metaie.cli import app
from metaie.export import export
from metaie.queries import Query
from spacy.language import Language
from typer.testing import CliRunner

LABELS = ["Person", "City", "Reason for the delay"]
TEXTS = [*SENTENCES, "", " ", "👩‍👩‍👧‍👦 🙂", "مرحبا بالعالم", "Ada met Charles. " * 200]


@pytest.fixture(scope="module")
def trained(make_nlp: Callable[..., Language], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with late fusion that has learnt a little, on disk."""
    nlp = make_nlp(architecture="LateFusion", labels=LABELS, threshold=0.2)
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = 0.005  # type: ignore[assignment]
    for _ in range(20):
        nlp.update(make_examples(nlp), sgd=optimizer)
    path = tmp_path_factory.mktemp("late_fusion")
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx")
    export(str(trained), path, int8=False)
    return path


def tag(nlp: Language, text: str) -> numpy.ndarray:
    doc = nlp.make_doc(text)
    queries = [Query(doc, 0, min(len(doc), 160), label) for label in LABELS]
    return numpy.concatenate(nlp.get_pipe("metaie").model.predict(queries))


def test_an_exported_pipeline_answers_the_same(trained: Path, exported: Path) -> None:
    ours, theirs = spacy.load(trained), spacy.load(exported)
    assert theirs.get_pipe("metaie").cfg == ours.get_pipe("metaie").cfg
    n_spans = 0
    for text in TEXTS:
        assert numpy.allclose(tag(ours, text), tag(theirs, text), atol=1e-3), text
        before, after = ours(text), theirs(text)
        spans = [
            [(span.start, span.end, span.label_) for span in doc.spans["metaie"]]
            for doc in (before, after)
        ]
        assert spans[0] == spans[1]
        n_spans += len(spans[0])
    assert n_spans
    docs = list(theirs.pipe(TEXTS, n_process=2))
    assert sum(len(doc.spans["metaie"]) for doc in docs) == n_spans


def test_eight_bits_are_close_and_small(trained: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", str(trained), "--onnx", str(tmp_path / "int8")])
    assert result.exit_code == 0, result.output
    ours, theirs = spacy.load(trained), spacy.load(tmp_path / "int8")
    difference = numpy.abs(tag(ours, SENTENCES[0]) - tag(theirs, SENTENCES[0])).max()
    assert 0 < difference < 0.2


def test_an_exported_pipeline_is_not_trained(exported: Path) -> None:
    nlp = spacy.load(exported)
    with pytest.raises(ValueError, match="train the pipeline that it was exported from"):
        nlp.update(make_examples(nlp), sgd=nlp.create_optimizer())


def test_only_late_fusion_is_exported(tiny_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="metaie_cross_encoder"):
        export(str(tiny_model_dir), tmp_path)


def test_a_tagger_without_graphs_says_where_they_come_from() -> None:
    nlp = spacy.blank("en")
    model = {"@architectures": "metaie.OnnxLateFusion.v1"}
    nlp.add_pipe("metaie", config={"model": model, "labels": LABELS})
    with pytest.raises(ValueError, match="metaie export"):
        nlp("Ada met Charles.")
