from collections.abc import Callable
from pathlib import Path

import pytest
import spacy
from conftest import make_examples
from metaie.evaluate import evaluate, format_results, plot_sweep
from metaie.loading import get_metaie
from metaie.spans import get_queries, set_queries
from spacy.language import Language
from spacy.training import Example


@pytest.fixture
def examples(tiny_pipeline: Language) -> list[Example]:
    made = make_examples(tiny_pipeline)
    for i, eg in enumerate(made):
        set_queries(eg.predicted, get_queries(eg.reference))
        eg.reference.user_data["genre"] = "news" if i < 2 else "science"
    return made


def test_figures_are_those_of_nlp_evaluate(
    tiny_pipeline: Language, examples: list[Example]
) -> None:
    tiny_pipeline.get_pipe("metaie").threshold = 0.3
    results = evaluate(tiny_pipeline, examples, thresholds=(0.3, 0.9))
    scores = tiny_pipeline.evaluate(examples)
    for name in ("f", "p", "r", "macro_f", "false_answers"):
        assert results[name] == pytest.approx(scores[f"spans_metaie_{name}"])
        assert results["sweep"][0][name] == pytest.approx(results[name])
    assert results["queries"] == 11 and results["absences"] == 3
    assert set(results["per_genre"]) == {"news", "science"}
    assert sum(own["queries"] for own in results["per_genre"].values()) == 11
    assert results["per_label"]["Person"]["gold"] == 2


def test_a_sweep_predicts_what_each_threshold_alone_would(
    tiny_pipeline: Language, examples: list[Example]
) -> None:
    results = evaluate(tiny_pipeline, examples, thresholds=(0.1, 0.4, 0.6))
    for own in results["sweep"]:
        tiny_pipeline.get_pipe("metaie").threshold = own["threshold"]
        assert own["r"] == pytest.approx(tiny_pipeline.evaluate(examples)["spans_metaie_r"])


def test_tables_and_plot(tiny_pipeline: Language, examples: list[Example], tmp_path: Path) -> None:
    results = evaluate(tiny_pipeline, examples, thresholds=(0.1, 0.5))
    text = format_results(results)
    assert "4 docs, 11 queries, 3 of them without an answer" in text
    assert "Person" in text and "science" in text and "Thresholds" in text
    plot_sweep(results, tmp_path / "sweep.svg")
    assert (tmp_path / "sweep.svg").stat().st_size > 1000
    with pytest.raises(ValueError, match="--sweep"):
        plot_sweep({**results, "sweep": []}, tmp_path / "none.svg")


def test_nothing_to_evaluate_is_an_error(tiny_pipeline: Language) -> None:
    with pytest.raises(ValueError, match="no docs"):
        evaluate(tiny_pipeline, [])
    with pytest.raises(ValueError, match="no metaie component"):
        get_metaie(spacy.blank("en"))


def test_labels_asked_are_the_docs_own(make_nlp: Callable[..., Language]) -> None:
    nlp = make_nlp(labels=["Unrelated"], threshold=0.1)
    made = make_examples(nlp)
    for eg in made:
        set_queries(eg.predicted, get_queries(eg.reference))
    assert "Unrelated" not in evaluate(nlp, made)["per_label"]
