import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import spacy
from annotated import NLP, ROW, SCHEMAS
from metaie.convert import make_doc
from metaie.loading import get_metaie
from metaie.spans import get_queries, get_scores
from metaie.tasks.families import FAMILIES, parse_schema
from metaie.tasks.scoring import score_structures
from metaie.tasks.structure import MetaIEStructure, add_structure
from metaie.tasks.structures import get_rows
from metaie.tasks.training import ask_schema
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example

TEXT = "Ada works for IBM and Bob praises its good lab ."


def learn(nlp: Language, doc: Doc) -> None:
    """Learn one text by heart."""
    example = Example(NLP.make_doc(doc.text), doc)
    optimizer = nlp.resume_training()
    optimizer.learn_rate = 0.01
    for _ in range(120):
        nlp.update([example], sgd=optimizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_learnt_is_found(family: str, make_nlp: Callable[..., Language]) -> None:
    nlp = make_nlp()
    schema = parse_schema(SCHEMAS[family])
    gold = make_doc(ROW, NLP, structures=True)
    ask_schema(schema, gold)
    learn(nlp, gold)
    structure = add_structure(nlp, schema)
    example = Example(nlp(TEXT), gold)
    scores = structure.score([example])
    assert scores
    assert all(score == 1.0 for score in scores.values()), scores
    assert set(get_queries(example.predicted)) == set(schema.labels())
    found = get_scores(example.predicted)
    assert found is not None
    assert len(found) == len(example.predicted.spans["metaie"])
    if family == "entities":
        assert [(ent.text, ent.label_) for ent in example.predicted.ents] == [
            *(("Ada", "person"), ("IBM", "company"), ("Bob", "person"))
        ]


@pytest.fixture
def nlp(eager_model_dir: Path) -> Language:
    """A pipeline that takes each token for an answer."""
    nlp = spacy.load(eager_model_dir)
    get_metaie(nlp).labels = ["person"]
    return nlp


def relations(nlp: Language, **config: Any) -> MetaIEStructure:
    schema = SCHEMAS["relations"]
    return nlp.add_pipe("metaie_structure", config={"schema": schema, **config})  # type: ignore[return-value]


def test_what_is_missing_of_the_first_queries_is_asked(nlp: Language) -> None:
    relations(nlp)
    doc = nlp(TEXT)
    assert get_queries(doc) == ["person", "company"]
    asked = nlp.make_doc(TEXT)
    asked._.queries = ["company", "City"]
    assert get_queries(nlp(asked)) == ["company", "City", "person"]


def test_relations_keep_to_the_types_of_their_ends(nlp: Language) -> None:
    relations(nlp)
    doc = nlp(TEXT + " Ada Bob IBM lab good praises Ada .")
    assert doc._.relations
    for relation in doc._.relations:
        assert relation.head.label_ == "person"
        assert relation.tail.label_ == {"works for": "company", "knows": "person"}[relation.label]
        assert (relation.head.start, relation.head.end) != (relation.tail.start, relation.tail.end)
        assert 0 <= relation.score <= 1


@pytest.fixture
def asked(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> list[list[list[str]]]:
    """What `ask` is asked, call by call; the answers are the component's own."""
    calls: list[list[list[str]]] = []
    metaie = get_metaie(nlp)
    ask = metaie.ask

    def record(docs: Any, labels: Any, *args: Any) -> Any:
        calls.append([list(own) for own in labels])
        return ask(docs, labels, *args)

    monkeypatch.setattr(metaie, "ask", record)
    return calls


def test_without_a_first_answer_nothing_more_is_asked(
    nlp: Language, asked: list[list[list[str]]]
) -> None:
    get_metaie(nlp).labels = ["person", "company"]
    get_metaie(nlp).threshold = 1.0
    relations(nlp)
    doc = nlp(TEXT)
    assert not any(labels for call in asked for labels in call)
    assert get_rows(doc, "relations") == []
    assert get_rows(nlp(""), "relations") == []


def test_relations_without_a_possible_tail_are_not_asked(
    nlp: Language, asked: list[list[list[str]]]
) -> None:
    structure = relations(nlp)
    doc = Doc(nlp.vocab, words=["Ada", "IBM"])
    doc._.queries = ["person", "company"]
    doc.spans["metaie"].append(Span(doc, 0, 1, "person"))
    structure(doc)
    assert asked[-1] == [["Ada knows"]]


def test_given_anchors_are_taken(nlp: Language, asked: list[list[list[str]]]) -> None:
    structure = relations(nlp, anchors_key="heads")
    doc = nlp.make_doc(TEXT)
    doc.spans["heads"] = SpanGroup(doc, spans=[Span(doc, 0, 1, "person"), Span(doc, 3, 4)])
    structure(doc)
    assert asked == [[["Ada works for", "Ada knows", "IBM works for", "IBM knows"]]]
    assert {relation.head.text for relation in doc._.relations} <= {"Ada", "IBM"}


def test_the_number_of_anchors_is_bounded_and_reported(
    nlp: Language, asked: list[list[list[str]]], caplog: pytest.LogCaptureFixture
) -> None:
    spacy.util.logger.propagate = True
    structure = relations(nlp, max_anchors=2)
    words = [f"Ada{i}" for i in range(3000)]
    doc = Doc(nlp.vocab, words=words)
    doc._.queries = ["person", "company"]
    spans = [Span(doc, i, i + 1, "person") for i in range(3000)]
    scores = [0.1] * 3000
    scores[7], scores[2999] = 0.9, 0.8
    attrs: dict[str, Any] = {"queries": ["person", "company"], "scores": scores}
    doc.spans["metaie"] = SpanGroup(doc, spans=spans, attrs=attrs)
    structure(doc)
    assert asked[-1] == [["Ada7 knows", "Ada2999 knows"]]
    assert "3000 spans of a doc ('Ada0" in caplog.text
    assert "only the 2 with the best scores" in caplog.text.lower()


def test_second_queries_are_asked_near_their_anchor(nlp: Language) -> None:
    get_metaie(nlp).cfg.update(window=20, stride=10)
    structure = relations(nlp)
    doc = Doc(nlp.vocab, words=["Ada", *["and"] * 60, "Bob"])
    doc._.queries = ["person", "company"]
    for i in (0, 5, 61):
        doc.spans["metaie"].append(Span(doc, i, i + 1, "person"))
    doc.spans["metaie"].append(Span(doc, 30, 31, "company"))
    structure(doc)
    assert doc._.relations
    for relation in doc._.relations:
        assert abs(relation.head.start - relation.tail.start) < 20


def test_it_works_as_any_component(nlp: Language, tmp_path: Path) -> None:
    relations(nlp)
    texts = [TEXT, "", "Ada .", TEXT]
    alone = [get_rows(nlp(text), "relations") for text in texts]
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    copied = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    for other in (loaded, copied):
        assert [get_rows(doc, "relations") for doc in other.pipe(texts)] == alone
    assert json.dumps(alone)
    spread = list(loaded.pipe(texts, n_process=2))
    assert [get_rows(doc, "relations") for doc in spread] == alone


def test_a_pipeline_without_the_component_is_refused(nlp: Language) -> None:
    relations(nlp, component="other")
    with pytest.raises(ValueError, match="metaie component 'other', but the pipeline has only"):
        nlp(TEXT)
    with pytest.raises(ValueError, match="has a schema of its own"):
        add_structure(nlp, parse_schema(SCHEMAS["relations"]))
    with pytest.raises(ValueError, match="no metaie component"):
        add_structure(spacy.blank("en"), parse_schema(SCHEMAS["relations"]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_anchors": 0}, "max_anchors must be 1 or more, not 0"),
        ({"threshold": 1.5}, "between 0 and 1"),
        ({"schema": {"family": "x"}}, "no family 'x'"),
    ],
)
def test_bad_settings_are_refused(nlp: Language, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relations(nlp, **config)


def test_scores_count_what_is_wrong_and_what_is_missing() -> None:
    schema = parse_schema(SCHEMAS["events"])
    gold = make_doc(ROW, NLP, structures=True)
    guess = gold.copy()
    rows = get_rows(gold, "events")
    assert rows is not None
    rows[0]["arguments"]["salary"] = rows[0]["arguments"].pop("employer")
    guess.user_data["metaie.events"] = rows
    scores = score_structures([Example(guess, gold)], schema=schema)
    assert scores == {
        **{f"triggers_{letter}": 1.0 for letter in "prf"},
        **{f"event_arguments_{letter}": 0.5 for letter in "prf"},
    }


def test_references_without_annotation_are_not_scored() -> None:
    schema = parse_schema(SCHEMAS["triplets"])
    example = Example(NLP.make_doc(TEXT), NLP.make_doc(TEXT))
    assert score_structures([example], schema=schema) == {}


def test_a_schema_survives_saving_whatever_its_labels(nlp: Language, tmp_path: Path) -> None:
    schema = {"family": "entities", "entities": ["price in $", "cost in $$"]}
    structure: Any = nlp.add_pipe("metaie_structure", config={"schema": schema})
    structure.threshold, structure.max_anchors = 0.25, 7
    for folder in ("a", "b"):
        nlp.to_disk(tmp_path / folder)
        nlp = spacy.load(tmp_path / folder)
        loaded: Any = nlp.get_pipe("metaie_structure")
        assert loaded.schema.labels() == ["price in $", "cost in $$"]
        assert (loaded.threshold, loaded.max_anchors) == (0.25, 7)


def test_a_very_long_anchor_is_asked_by_its_beginning(
    nlp: Language, asked: list[list[list[str]]]
) -> None:
    structure = relations(nlp, anchors_key="heads")
    doc = Doc(nlp.vocab, words=["x" * 5000, "works"])
    doc.spans["heads"] = [Span(doc, 0, 1, "person")]
    structure(doc)
    assert asked[0][0][0] == "x" * 100 + " works for"


def test_what_can_be_no_head_does_not_count(nlp: Language, asked: list[list[list[str]]]) -> None:
    structure = relations(nlp, max_anchors=2)
    doc = Doc(nlp.vocab, words=["Ada", "IBM", "and", "Siemens"])
    doc._.queries = ["person", "company"]
    labels = ["person", "company", "company", "company"]
    doc.spans["metaie"] = SpanGroup(
        doc,
        spans=[Span(doc, i, i + 1, label) for i, label in enumerate(labels)],
        attrs={"queries": ["person", "company"], "scores": [0.5, 0.9, 0.9, 0.9]},
    )
    structure(doc)
    assert asked[-1] == [["Ada works for", "Ada knows"]]


@pytest.mark.parametrize("family", ["entities", "aspects"])
def test_anchors_need_a_second_query(family: str, nlp: Language) -> None:
    with pytest.raises(ValueError, match="leave out `anchors_key`"):
        add_structure(nlp, parse_schema(SCHEMAS[family]), anchors_key="heads")


def test_spans_that_something_else_adds_are_answers(nlp: Language) -> None:
    relations(nlp)

    @Language.component("add_company")
    def add_company(doc: Doc) -> Doc:
        doc.spans["metaie"].append(Span(doc, 3, 4, "company"))
        return doc

    nlp.add_pipe("add_company", after="metaie")
    doc = nlp(TEXT)
    assert get_queries(doc) == ["person", "company"]
    # The label was not asked again.
    assert [s.text for s in doc.spans["metaie"] if s.label_ == "company"] == ["IBM"]


def test_one_component_an_attribute(nlp: Language) -> None:
    relations(nlp)
    with pytest.raises(ValueError, match="overwrite the relations of 'metaie_structure'"):
        nlp.add_pipe("metaie_structure", name="more", config={"schema": SCHEMAS["relations"]})
    nlp.add_pipe("metaie_structure", name="events", config={"schema": SCHEMAS["events"]})
    gold = make_doc(ROW, NLP, structures=True)
    for family in ("relations", "events"):
        ask_schema(parse_schema(SCHEMAS[family]), gold)
    names = {name.rpartition("_")[0] for name in nlp.evaluate([Example(nlp(TEXT), gold)])}
    assert {"relations", "triggers", "event_arguments"} <= names
