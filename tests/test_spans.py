import numpy
import pytest
import spacy
from conftest import annotate
from hypothesis import given
from hypothesis import strategies as st
from metaie.spans import (
    clean_labels,
    drop_overlapping,
    get_answers,
    get_queries,
    get_scores,
    has_queries,
    set_answers,
    set_queries,
)
from spacy.tokens import Doc, DocBin, Span

NLP = spacy.blank("en")


def test_annotation_survives_docbin() -> None:
    doc = NLP("Ada met Charles in London.")
    spans = [Span(doc, 0, 1, label="Person"), Span(doc, 2, 3, label="Person")]
    set_answers(doc, spans, ["Person", "Drug"], [0.9, 0.6])
    (read,) = DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(NLP.vocab)
    assert get_queries(read) == ["Person", "Drug"]
    assert [span.text for span in get_answers(read)["Person"]] == ["Ada", "Charles"]
    assert get_answers(read)["Drug"] == []
    scores = get_scores(read)
    assert scores is not None and scores.dtype == numpy.float32
    assert scores.tolist() == pytest.approx([0.9, 0.6])


def test_queries_extension_sets_and_gets() -> None:
    doc = NLP("Ada met Charles.")
    assert doc._.queries == [] and not has_queries(doc)
    doc._.queries = ["Person", " Reason  for\tthe delay ", "Person"]
    assert doc._.queries == ["Person", "Reason for the delay"]
    doc._.queries = []
    assert has_queries(doc) and doc._.queries == []


def test_new_queries_drop_answers_to_old_ones() -> None:
    doc = annotate(NLP("Ada met Charles in London."), {"Person": ["Ada"], "City": ["London"]})
    set_queries(doc, ["City", "Drug"])
    assert [span.text for span in doc.spans["metaie"]] == ["London"]


def test_labels_in_two_cases_are_two_labels() -> None:
    assert clean_labels(["Person", "person", "Person "]) == ["Person", "person"]


@pytest.mark.parametrize("label", ["", "  ", "\n\t"])
def test_empty_label_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="is empty"):
        clean_labels(["Person", label])


def test_label_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a string"):
        clean_labels(["Person", 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not one string"):
        clean_labels("Person")


def test_answers_to_unasked_labels_are_refused() -> None:
    doc = NLP("Ada met Charles.")
    with pytest.raises(ValueError, match="City"):
        set_answers(doc, [Span(doc, 0, 1, label="City")], ["Person"])
    with pytest.raises(ValueError, match="1 spans, but 2 scores"):
        set_answers(doc, [Span(doc, 0, 1, label="City")], ["City"], [0.1, 0.2])


spans_of_two_labels = st.lists(
    st.tuples(st.integers(0, 19), st.integers(1, 8), st.sampled_from("ab")), max_size=12
)


@given(spans_of_two_labels)
def test_kept_spans_do_not_overlap_and_dropped_ones_do(parts: list[tuple[int, int, str]]) -> None:
    doc = Doc(NLP.vocab, ["x"] * 20)
    spans = [Span(doc, a, min(a + n, 20), label=label) for a, n, label in parts]
    kept, dropped = drop_overlapping(spans)
    assert len(kept) + len(dropped) == len(spans)

    def overlap(one: Span, two: Span) -> bool:
        return one.label_ == two.label_ and one.start < two.end and two.start < one.end

    for i, one in enumerate(kept):
        assert not any(overlap(one, two) for two in kept[i + 1 :])
    for one in dropped:
        assert any(overlap(one, two) and len(two) >= len(one) for two in kept)
