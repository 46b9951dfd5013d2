import pytest
import spacy
from conftest import annotate
from metaie.scoring import MAX_LABELS_LISTED, score_examples, score_queries
from spacy.tokens import Doc
from spacy.training import Example

NLP = spacy.blank("en")
TEXT = "Ada met Charles in London"


def example(guess: dict[str, list[str]], gold: dict[str, list[str]]) -> Example:
    return Example(annotate(NLP(TEXT), guess), annotate(NLP(TEXT), gold))


def test_spans_are_counted_over_queries() -> None:
    gold = {"Person": ["Ada", "Charles"], "City": ["London"], "Drug": [], "Price": []}
    guess = {"Person": ["Ada", "Ada met"], "City": [], "Drug": ["met"], "Price": []}
    scores = score_queries([example(guess, gold)])
    assert (scores.micro.tp, scores.micro.fp, scores.micro.fn) == (1, 2, 2)
    assert (scores.queries, scores.absences, scores.false_answers) == (4, 2, 0.5)
    assert scores.macro_f == pytest.approx((0.5 + 0.0) / 2)


def test_labels_nobody_asked_are_not_counted() -> None:
    scores = score_queries([example({"Person": ["Ada"], "City": ["London"]}, {"Person": ["Ada"]})])
    assert scores.micro.fscore == 1.0 and scores.queries == 1


def test_spans_match_by_characters_across_tokenizations() -> None:
    predicted = Doc(NLP.vocab, ["Ada", "m", "et", "Charles"], [True, False, True, False])
    annotate(predicted, {"Verb": ["met"]})
    reference = annotate(NLP("Ada met Charles"), {"Verb": ["met"]})
    assert score_queries([Example(predicted, reference)]).micro.fscore == 1.0


def test_names_are_spacys_and_none_without_annotation() -> None:
    scores = score_examples([example({"Person": ["Ada"]}, {"Person": ["Ada"]})])
    assert scores["spans_metaie_f"] == 1.0
    assert scores["spans_metaie_per_type"]["Person"]["f"] == 1.0
    blank = score_examples([Example(NLP(TEXT), NLP(TEXT))])
    assert blank["spans_metaie_f"] is None and "spans_metaie_per_type" not in blank


def test_open_labels_are_not_listed_one_by_one() -> None:
    gold: dict[str, list[str]] = {f"Label {i}": [] for i in range(MAX_LABELS_LISTED + 1)}
    assert "spans_metaie_per_type" not in score_examples([example(gold, gold)])
