from pathlib import Path
from typing import Any

import pytest
import spacy
from annotated import NLP, ROW, SCHEMAS
from metaie.convert import make_doc
from metaie.docbin import write_docbin
from metaie.loading import get_metaie
from metaie.spans import get_queries
from metaie.tasks.evaluation import (
    ANCHORS_KEY,
    evaluate_schema,
    format_scores,
    make_bare,
    read_references,
)
from metaie.tasks.families import FAMILIES, parse_schema
from metaie.tasks.structures import STRUCTURES, get_rows
from metaie.tasks.training import ask_schema
from spacy.tokens import Doc


def make_reference(schema: Any) -> Doc:
    doc = make_doc(ROW, NLP, structures=True)
    ask_schema(schema, doc)
    return doc


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pipeline_sees_no_annotation(family: str) -> None:
    schema = parse_schema(SCHEMAS[family])
    reference = make_reference(schema)
    bare = make_bare(reference, schema)
    assert bare.text == reference.text
    assert get_queries(bare) == schema.labels()
    assert not [span for group in bare.spans.values() for span in group]
    assert all(get_rows(bare, attr) is None for attr in STRUCTURES)


def test_anchors_are_given_and_nothing_else() -> None:
    schema = parse_schema(SCHEMAS["roles"])
    bare = make_bare(make_reference(schema), schema, given=True)
    assert get_queries(bare) == []
    assert [span.text for span in bare.spans[ANCHORS_KEY]] == ["praises"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pipeline_is_scored_and_left_as_it_was(family: str, eager_model_dir: Path) -> None:
    nlp = spacy.load(eager_model_dir)
    schema = parse_schema(SCHEMAS[family])
    for _ in range(2):
        scores = evaluate_schema(nlp, [make_reference(schema)], schema)
        assert scores
        assert all(0 <= score <= 1 for score in scores.values())
    assert nlp.pipe_names == ["metaie"]
    assert get_metaie(nlp).labels == ("Person", "City")
    assert "F1" in format_scores(scores)


def test_what_is_given_is_not_scored(eager_model_dir: Path) -> None:
    nlp = spacy.load(eager_model_dir)
    schema = parse_schema(SCHEMAS["events"])
    scores = evaluate_schema(nlp, [make_reference(schema)], schema, given=True)
    assert {name.rpartition("_")[0] for name in scores} == {"event_arguments"}


def test_docs_without_annotation_are_refused(eager_model_dir: Path) -> None:
    nlp = spacy.load(eager_model_dir)
    doc = nlp.make_doc("Ada")
    doc._.queries = ["person"]
    with pytest.raises(ValueError, match="No doc is annotated for a schema of relations"):
        evaluate_schema(nlp, [doc], parse_schema(SCHEMAS["relations"]))


def test_references_are_read_up_to_a_limit(eager_model_dir: Path, tmp_path: Path) -> None:
    nlp = spacy.load(eager_model_dir)
    docs = [make_reference(parse_schema(SCHEMAS["entities"])) for _ in range(3)]
    write_docbin(tmp_path / "a.spacy", docs)
    assert len(read_references(nlp, tmp_path / "a.spacy")) == 3
    assert len(read_references(nlp, tmp_path / "a.spacy", 2)) == 2
