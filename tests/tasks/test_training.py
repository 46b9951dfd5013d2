from typing import Any

import pytest
from annotated import NLP, ROW, SCHEMAS
from hypothesis import given
from hypothesis import strategies as st
from metaie.convert import make_doc
from metaie.rows import BadRow
from metaie.spans import get_queries
from metaie.tasks.families import FAMILIES, parse_schema
from metaie.tasks.mentions import make_questions, share_answers
from metaie.tasks.schema import Found
from metaie.tasks.scoring import list_facts
from metaie.tasks.training import ask_schema, list_unknown, make_answers
from spacy.tokens import Doc

ASKED: dict[str, dict[str, list[str]]] = {
    "entities": {"person": ["Ada", "Bob"], "company": ["IBM"]},
    "relations": {
        "person": ["Ada", "Bob"],
        "company": ["IBM"],
        "Ada works for": ["IBM"],
        "Ada knows": [],
        "Bob works for": [],
        "Bob knows": [],
    },
    "events": {
        "employment": ["works"],
        "employee of works": ["Ada"],
        "employer of works": ["IBM"],
        "salary of works": [],
    },
    "roles": {
        "predicate": ["praises"],
        "agent of praises": ["Bob"],
        "patient of praises": ["lab"],
        "time of praises": [],
    },
    "aspects": {"positive aspect": ["lab"], "negative aspect": [], "neutral aspect": []},
    "triplets": {
        "positive aspect": ["lab"],
        "negative aspect": [],
        "neutral aspect": [],
        "positive opinion of lab": ["good"],
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_doc_is_asked_what_the_schema_asks(family: str, doc: Doc) -> None:
    answers = make_answers(parse_schema(SCHEMAS[family]), doc)
    assert {label: [s.text for s in spans] for label, spans in answers.items()} == ASKED[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_right_answers_give_back_the_structure(family: str, doc: Doc) -> None:
    schema = parse_schema(SCHEMAS[family])
    ask_schema(schema, doc)
    assert get_queries(doc) == list(ASKED[family])
    assert list_facts(schema, rebuild(schema, doc)) == list_facts(schema, doc)


def rebuild(schema: Any, doc: Doc) -> Doc:
    """What the component would make of the doc's right answers."""
    answers = {
        label: [Found(span) for span in spans] for label, spans in make_answers(schema, doc).items()
    }
    found = schema.choose([one for label in schema.labels() for one in answers[label]])
    questions = make_questions(schema, found, {one.span.label_ for one in found})
    built = doc.copy()
    if schema.attr:
        setattr(built._, schema.attr, schema.build(found, share_answers(questions, answers)))
    return built


def test_anchors_need_no_label_of_their_own() -> None:
    spans: Any = ROW["spans"]
    row = {**ROW, "spans": [{**span, "label": "x"} for span in spans]}
    doc = make_doc(row, NLP, structures=True)
    for family in ("events", "roles"):
        answers = make_answers(parse_schema(SCHEMAS[family]), doc)
        assert {label: [s.text for s in spans] for label, spans in answers.items()} == ASKED[family]


def test_an_unannotated_doc_is_refused(doc: Doc) -> None:
    del doc.user_data["metaie.relations"]
    with pytest.raises(BadRow, match='"relations": \\[\\]'):
        ask_schema(parse_schema(SCHEMAS["relations"]), doc)


def test_what_the_schema_does_not_name_is_listed(doc: Doc) -> None:
    schema = parse_schema({"family": "roles", "roles": ["agent"]})
    assert list(list_unknown(schema, doc)) == ["patient"]
    schema = parse_schema({"family": "entities", "entities": ["person"]})
    assert sorted(set(list_unknown(schema, doc))) == [
        *("company", "employment", "opinion", "positive aspect", "predicate"),
    ]


WORDS = ["Ada", "ada", "Bob", "IBM", "​x", "שלום", "🙂", "{head}", "works"]


@st.composite
def relation_rows(draw: st.DrawFn) -> dict[str, Any]:
    """Sentences of few words, so that many mentions look alike; entities are single tokens."""
    tokens = draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=12))
    labels = [draw(st.sampled_from(["person", "company"])) for _ in tokens]
    pairs = draw(
        st.lists(st.tuples(*[st.integers(0, len(tokens) - 1)] * 2), max_size=4, unique=True)
    )
    return {
        "tokens": tokens,
        "spans": [{"start": i, "end": i + 1, "label": label} for i, label in enumerate(labels)],
        "relations": [
            {"head": head, "tail": tail, "label": "works for"}
            for head, tail in pairs
            if labels[head] == "person" and labels[tail] == "company"
        ],
    }


@given(relation_rows())
def test_alike_mentions_share_answers_by_distance(row: dict[str, Any]) -> None:
    schema = parse_schema(SCHEMAS["relations"])
    doc = make_doc(row, NLP, structures=True)
    gold = {(r.head.start, r.tail.start) for r in doc._.relations}
    built = {(r.head.start, r.tail.start) for r in rebuild(schema, doc)._.relations}
    # Every tail keeps a head of the same words, the nearest of them.
    assert {tail for _, tail in built} == {tail for _, tail in gold}
    for head, tail in built:
        assert any(doc[head].text.lower() == doc[h].text.lower() and t == tail for h, t in gold)
        alike = [
            i
            for i, token in enumerate(doc)
            if token.lower_ == doc[head].lower_ and row["spans"][i]["label"] == "person"
        ]
        assert abs(head - tail) == min(abs(i - tail) for i in alike)
