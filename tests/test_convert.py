import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from annotated import ROW, SCHEMAS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metaie.convert import convert, make_doc, make_row, make_tokenizer, read_annotated
from metaie.docbin import read_docbin, write_docbin
from metaie.rows import BadRow
from metaie.spans import get_queries, set_answers
from metaie.tasks.draft import draft_schema
from metaie.tasks.families import parse_schema
from spacy.tokens import Doc, Span
from spacy.vocab import Vocab

NLP = make_tokenizer("en")


@pytest.fixture(autouse=True)
def one_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building one takes a quarter of a second: here all conversions share it."""
    blank = spacy.blank
    monkeypatch.setattr(spacy, "blank", lambda lang: NLP if lang == "en" else blank(lang))


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, key: str = "metaie") -> list[Doc]:
    return list(read_docbin(path, Vocab(), key))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answers(doc: Doc, key: str = "metaie") -> list[tuple[str, str]]:
    return [(span.text, span.label_) for span in doc.spans[key]]


ADA = {"text": "Ada met Bob.", "spans": [{"start": 0, "end": 3, "label": "Person"}]}
ROME = {
    "tokens": ["In", "New", "Rome", "."],
    "spans": [{"start": 1, "end": 3, "label": "City"}],
    "id": "r1",
    "genre": "news",
    "relations": [],
}


def test_both_shapes_become_docs_that_are_asked_all_labels(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", ADA, ROME, {"text": "Nothing.", "spans": []})
    report = convert(source, tmp_path / "a.spacy")
    docs = read(tmp_path / "a.spacy")
    assert [doc.text for doc in docs] == ["Ada met Bob.", "In New Rome .", "Nothing."]
    assert [answers(doc) for doc in docs] == [[("Ada", "Person")], [("New Rome", "City")], []]
    assert all(get_queries(doc) == ["Person", "City"] for doc in docs)
    assert docs[1].user_data == {"id": "r1", "genre": "news"}
    assert (report.docs, report.spans, report.labels) == (3, 2, ["Person", "City"])


def test_labels_can_be_fixed(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", ADA)
    convert(source, tmp_path / "a.spacy", labels=["City", " Person", "City"])
    assert get_queries(read(tmp_path / "a.spacy")[0]) == ["City", "Person"]
    with pytest.raises(BadRow, match=r"line 1: .*'Ada' has the label 'Person', which is none of"):
        convert(source, tmp_path / "a.spacy", labels=["City"])


def test_rows_keep_queries_of_their_own(tmp_path: Path) -> None:
    own = {**ADA, "queries": ["Drug", "Person", "Drug"]}
    convert(write(tmp_path / "a.jsonl", own, ROME), tmp_path / "a.spacy")
    assert [get_queries(doc) for doc in read(tmp_path / "a.spacy")] == [
        ["Drug", "Person"],
        ["City"],
    ]
    with pytest.raises(BadRow, match=r"not among the queries: \['Person'\]"):
        convert(write(tmp_path / "a.jsonl", {**ADA, "queries": []}), tmp_path / "a.spacy")


def test_there_must_be_something_to_ask(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"text": "Nothing.", "spans": []})
    with pytest.raises(ValueError, match="--label"):
        convert(source, tmp_path / "a.spacy")
    convert(source, tmp_path / "a.spacy", labels=["Person"])
    assert get_queries(read(tmp_path / "a.spacy")[0]) == ["Person"]


def test_overlapping_spans_are_kept(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 2, "label": "x"}, {"start": 1, "end": 3, "label": "x"}]
    source = write(tmp_path / "a.jsonl", {"tokens": ["a", "b", "c"], "spans": spans})
    convert(source, tmp_path / "a.spacy")
    assert answers(read(tmp_path / "a.spacy")[0]) == [("a b", "x"), ("b c", "x")]


def span(start: object, end: object, label: object = "Person") -> dict[str, object]:
    return {"text": "New York wins", "spans": [{"start": start, "end": end, "label": label}]}


BAD_ROWS = [
    (span(5, 8), "span cuts a token", "'ork' (5 to 8, 'Person') cuts a token: whole tokens there "
     "are 'York' (4 to 8)"),
    (span(0, 14), "span out of range", "0 to 14 lies outside of the 13 characters"),
    (span(-3, 3), "span out of range", "-3 to 3"),
    (span(3, 3), "empty span", "is empty"),
    (span(3, 4), "empty span", "white space"),
    (span(8, 4), "empty span", "is empty"),
    (span(0.0, 3), "span has no whole offsets", "integers"),
    (span(False, True), "span has no whole offsets", "integers"),
    (span("0", "3"), "span has no whole offsets", "integers"),
    (span(0, 3, " "), "empty label", "is empty"),
    (span(0, 3, None), "a label is not a string", "None"),
    ({"text": "a", "spans": [{"start": 0, "end": 1}]}, "span lacks a key", "['label'] missing"),
    ({"text": "a", "spans": ["a"]}, "span is not an object", "'a'"),
    ({"text": "a", "spans": {}}, "spans is not a list", "{}"),
    ({"text": "a"}, "no spans", '"spans": []'),
    ({"spans": []}, "neither text nor tokens", "['spans']"),
    ({"text": 1, "spans": []}, "text is not a string", "1"),
    ({"tokens": "a b", "spans": []}, "tokens is not a list", "'a b'"),
    ({"tokens": ["a", ""], "spans": []}, "empty token", "token 1"),
    ({"tokens": ["a", 3], "spans": []}, "a token is not a string", "3"),
    ({"tokens": ["a"], "spans": [{"start": 0, "end": 2, "label": "x"}]}, "span out of range",
     "0 to 2 lies outside of the 1 tokens"),
    ({"text": "a", "spans": [], "queries": "x"}, "queries is not a list", "'x'"),
    ({"text": "a", "spans": [], "queries": [""]}, "empty label", "is empty"),
    ([], "not a JSON object", "[]"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "reason", "detail"), BAD_ROWS)
def test_a_bad_row_stops_the_conversion_or_is_counted(
    tmp_path: Path, row: object, reason: str, detail: str
) -> None:
    source = write(tmp_path / "a.jsonl", ADA, row)
    with pytest.raises(BadRow) as error:
        convert(source, tmp_path / "a.spacy")
    assert f"{source}, line 2: " in str(error.value)
    assert detail in str(error.value)
    assert not (tmp_path / "a.spacy").exists()
    report = convert(source, tmp_path / "a.spacy", skip_bad=True)
    assert report.skipped == {reason: 1}
    assert [doc.text for doc in read(tmp_path / "a.spacy")] == ["Ada met Bob."]


def test_nothing_is_left(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("\n \nno JSON\n")
    with pytest.raises(ValueError, match=r"line 3: this is not JSON .*'no JSON'"):
        convert(source, tmp_path / "a.spacy")
    with pytest.raises(ValueError, match="nothing to convert"):
        convert(source, tmp_path / "a.spacy", skip_bad=True)


def test_files_and_languages_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nope\.jsonl"):
        convert(tmp_path / "nope.jsonl", tmp_path / "a.spacy")
    with pytest.raises(ValueError, match=r"a\.json' must end with"):
        convert(write(tmp_path / "a.jsonl", ADA), tmp_path / "a.json")
    with pytest.raises(ValueError, match="language 'qq'"):
        make_tokenizer("qq")


CONLL = """\
-DOCSTART- -X- O O

U.N. NNP I-NP I-ORG
official NN I-NP O
Rolf NNP I-NP I-PER
Ekeus NNP I-NP I-PER
Smith NNP I-NP B-PER

heads VBZ I-VP O
5\u00a0000 CD I-NP O
"""


def test_a_conll_file(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(CONLL, encoding="utf-8")
    report = convert(tmp_path / "a.conll", tmp_path / "a.spacy")
    [first, second] = read(tmp_path / "a.spacy")
    assert first.text == "U.N. official Rolf Ekeus Smith"
    assert answers(first) == [("U.N.", "ORG"), ("Rolf Ekeus", "PER"), ("Smith", "PER")]
    assert [token.text for token in second] == ["heads", "5\u00a0000"]
    assert report.labels == ["ORG", "PER"]


@pytest.mark.parametrize(
    "tags",
    [
        "B-creative-work I-creative-work O B-x B-x",
        "B-creative-work L-creative-work O U-x U-x",
        "B-creative-work E-creative-work O S-x S-x",
        "I-creative-work I-creative-work O I-x B-x",
    ],
)
def test_schemes_of_tags(tmp_path: Path, tags: str) -> None:
    lines = [f"{word}\t{tag}" for word, tag in zip("abcde", tags.split(), strict=True)]
    (tmp_path / "a.tsv").write_text("\r\n".join(lines))
    convert(tmp_path / "a.tsv", tmp_path / "a.spacy")
    [doc] = read(tmp_path / "a.spacy")
    assert answers(doc) == [("a b", "creative-work"), ("d", "x"), ("e", "x")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("alone", "no token or no tag"),
        ("\tO", "no token or no tag"),
        ("Ada PER", "not a tag"),
        ("Ada B-", "not a tag"),
        ("Ada OTHER", "not a tag"),
    ],
)
def test_a_bad_line_of_a_token_file(tmp_path: Path, line: str, reason: str) -> None:
    source = tmp_path / "a.iob"
    source.write_text(f"Bob B-PER\n\nfine O\n{line}\n\nEve B-PER\n")
    with pytest.raises(BadRow, match=r"a\.iob, line 4: "):
        convert(source, tmp_path / "a.spacy")
    report = convert(source, tmp_path / "a.spacy", skip_bad=True)
    assert report.skipped == {reason: 1}
    assert [doc.text for doc in read(tmp_path / "a.spacy")] == ["Bob", "Eve"]


def test_a_docbin_becomes_jsonl_with_scores(tmp_path: Path) -> None:
    doc = NLP.make_doc("Ada met Bob.")
    doc.user_data["id"] = 7
    group = [doc[0:1], doc[2:3]]
    for item in group:
        item.label_ = "Person"
    set_answers(doc, group, ["Person", "City"], [0.91239, 1.0])
    write_docbin(tmp_path / "a.spacy", [doc])
    convert(tmp_path / "a.spacy", tmp_path / "a.jsonl")
    assert read_jsonl(tmp_path / "a.jsonl") == [
        {
            "id": 7,
            "text": "Ada met Bob.",
            "spans": [
                {"start": 0, "end": 3, "label": "Person", "score": 0.9124},
                {"start": 8, "end": 11, "label": "Person", "score": 1.0},
            ],
            "queries": ["Person", "City"],
        }
    ]


def test_a_docbin_of_spans_gets_queries(tmp_path: Path) -> None:
    docs = [NLP.make_doc("Ada left."), NLP.make_doc("Rome fell.")]
    for doc, label in zip(docs, ["Person", "City"], strict=True):
        doc.spans["sc"] = [Span(doc, 0, 1, label=label)]
    write_docbin(tmp_path / "a.spacy", docs)
    with pytest.raises(ValueError, match="no span group 'metaie'"):
        convert(tmp_path / "a.spacy", tmp_path / "b.spacy")
    convert(tmp_path / "a.spacy", tmp_path / "b.spacy", key="sc")
    assert [get_queries(doc, "sc") for doc in read(tmp_path / "b.spacy", "sc")] == [
        ["Person", "City"],
        ["Person", "City"],
    ]
    with pytest.raises(BadRow, match="doc 2: "):
        convert(tmp_path / "a.spacy", tmp_path / "b.spacy", key="sc", labels=["Person"])


def test_a_long_doc_and_a_huge_label(tmp_path: Path) -> None:
    label = "very " * 5_000 + "long"
    row = {"text": "word " * 300_000, "spans": [{"start": 0, "end": 4, "label": label}]}
    convert(write(tmp_path / "a.jsonl", row), tmp_path / "a.spacy")
    [doc] = read(tmp_path / "a.spacy")
    assert len(doc) == 300_000
    assert answers(doc) == [("word", label)]


TEXTS = st.text(
    st.one_of(
        st.sampled_from("ab AZ.,'\n\t\"\\-😀👩‍👧שלוםعربي\u200b\u202e\u00a0\u2028\x00\x1b"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)
LABELS = st.sampled_from(["Person", "person", "Reason for the delay", "שם", "😀", "a\u200bb"])


@st.composite
def annotated_docs(draw: st.DrawFn) -> Doc:
    doc = NLP.make_doc(draw(TEXTS))
    spans = []
    if len(doc):
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, len(doc) - 1))
            chosen = doc[start : draw(st.integers(start + 1, len(doc)))]
            if chosen.text.strip():
                chosen.label_ = draw(LABELS)
                spans.append(chosen)
    queries = [chosen.label_ for chosen in spans] + draw(st.lists(LABELS, min_size=1))
    set_answers(doc, spans, dict.fromkeys(queries))
    return doc


def describe(doc: Doc) -> tuple[str, list[tuple[int, int, str]], list[str]]:
    spans = [(s.start_char, s.end_char, s.label_) for s in doc.spans["metaie"]]
    return doc.text, spans, get_queries(doc)


@given(st.lists(annotated_docs(), min_size=1, max_size=3))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_round_trip_changes_nothing(tmp_path: Path, docs: list[Doc]) -> None:
    write_docbin(tmp_path / "a.spacy", docs)
    convert(tmp_path / "a.spacy", tmp_path / "a.jsonl")
    convert(tmp_path / "a.jsonl", tmp_path / "b.spacy")
    assert [describe(doc) for doc in read(tmp_path / "b.spacy")] == [describe(doc) for doc in docs]


@given(annotated_docs())
@settings(max_examples=40, deadline=None)
def test_a_round_trip_in_tokens_keeps_tokens_spans_and_queries(doc: Doc) -> None:
    row = make_row(doc, tokens=True)
    back = make_doc(json.loads(json.dumps(row)), NLP)
    assert [token.text for token in back] == [token.text for token in doc]
    assert make_row(back, tokens=True) == row


@given(TEXTS, st.integers(-2, 62), st.integers(-2, 62))
@settings(max_examples=80, deadline=None)
def test_any_offsets_make_a_span_or_a_bad_row(text: str, start: int, end: int) -> None:
    row = {"text": text, "spans": [{"start": start, "end": end, "label": "x"}]}
    try:
        doc = make_doc(row, NLP)
    except BadRow:
        return
    assert doc.spans["metaie"][0].text == text[start:end]


PERSON = {"start": 0, "end": 1, "label": "person"}
COMPANY = {"start": 3, "end": 4, "label": "company"}


def structured(**more: Any) -> dict[str, Any]:
    tokens = ["Ada", "works", "for", "IBM", "."]
    return {"tokens": tokens, "spans": [PERSON, COMPANY], **more}


WORKS_FOR = parse_schema(
    {
        "family": "relations",
        "entities": ["person", "company"],
        "relations": ["works for: person -> company"],
    }
)


def test_a_schema_says_what_is_asked(tmp_path: Path) -> None:
    good = structured(
        relations=[{"head": 0, "tail": 1, "label": "works for"}], queries=["not", "heeded"]
    )
    odd = structured(relations=[{"head": 0, "tail": 1, "label": "owns"}])
    source = write(tmp_path / "a.jsonl", good, odd)
    report = convert(source, tmp_path / "a.spacy", schema=WORKS_FOR)
    docs = read(tmp_path / "a.spacy")
    assert answers(docs[0]) == [("Ada", "person"), ("IBM", "company"), ("IBM", "Ada works for")]
    assert get_queries(docs[0]) == get_queries(docs[1]) == ["person", "company", "Ada works for"]
    assert report.unknown == {"owns": 1}
    assert [relation.label for relation in docs[0]._.relations] == ["works for"]
    # A DocBin keeps the structures, so it can be asked anew.
    convert(tmp_path / "a.spacy", tmp_path / "b.spacy", schema=WORKS_FOR)
    assert [answers(doc) for doc in read(tmp_path / "b.spacy")] == [answers(doc) for doc in docs]


RELATION = {"head": 0, "tail": 1, "label": "works for"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, '"relations": \\[\\] where there are none'),
        ({"relations": RELATION}, "'relations' is not a list"),
        ({"relations": [3]}, "'relations' holds 3, not JSON objects"),
        ({"relations": [{**RELATION, "head": 2}]}, "'head' of .* one of the row's 2 spans.* not 2"),
        ({"relations": [{**RELATION, "tail": -1}]}, "'tail' of .* not -1"),
        ({"relations": [{**RELATION, "tail": True}]}, "'tail' of .* not True"),
        ({"relations": [{"tail": 1, "label": "x"}]}, "'head' of .* not None"),
        ({"relations": [{"head": 0, "tail": 1}]}, "'label' is missing in"),
        ({"relations": [{**RELATION, "label": " "}]}, "empty"),
        ({"events": [{"trigger": 5, "label": "x"}]}, "'trigger' of .* not 5"),
        ({"events": [{"trigger": 0, "label": "x", "arguments": {}}]}, "'arguments' is not a list"),
        (
            {"frames": [{"predicate": 0, "arguments": [{"span": 7, "role": "r"}]}]},
            "'span' of .* not 7",
        ),
        ({"frames": [{"predicate": 0, "arguments": [{"span": 1}]}]}, "'role' is missing"),
        ({"triplets": [{"aspect": 0, "opinion": 1}]}, "'polarity' is missing"),
    ],
)
def test_bad_structures_are_named_or_skipped(
    more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    good = structured(relations=[RELATION])
    source = write(tmp_path / "a.jsonl", good, structured(**more))
    with pytest.raises(BadRow, match=r"a\.jsonl, line 2: .*" + message):
        convert(source, tmp_path / "a.spacy", schema=WORKS_FOR)
    report = convert(source, tmp_path / "a.spacy", schema=WORKS_FOR, skip_bad=True)
    assert (report.docs, report.skipped.total()) == (1, 1)


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("family", SCHEMAS)
def test_structures_go_to_jsonl_and_back(tmp_path: Path, family: str, tokens: bool) -> None:
    schema = parse_schema(SCHEMAS[family])
    source = write(tmp_path / "a.jsonl", ROW)
    convert(source, tmp_path / "a.spacy", schema=schema)
    convert(tmp_path / "a.spacy", tmp_path / "b.jsonl", tokens=tokens)
    # With the schema everything is as it was, and without it nothing is lost.
    for asked in (schema, None):
        convert(tmp_path / "b.jsonl", tmp_path / "b.spacy", schema=asked)
        (before,), (after,) = read(tmp_path / "a.spacy"), read(tmp_path / "b.spacy")
        assert get_queries(after) == get_queries(before)
        assert sorted(answers(after)) == sorted(answers(before))
    # What was asked about answers is no label of the data.
    labels = {span["label"] for span in ROW["spans"]}  # type: ignore[attr-defined]
    for made in ("a.spacy", "b.jsonl"):
        assert draft_schema(read_annotated(tmp_path / made), family).names() <= {
            *schema.names(),
            *labels,
        }
        report = convert(tmp_path / made, tmp_path / "c.spacy", schema=schema)
        assert set(report.unknown) <= labels


def test_labels_and_a_schema_exclude_each_other(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", structured(relations=[]))
    with pytest.raises(ValueError, match="labels or a schema"):
        convert(source, tmp_path / "a.spacy", schema=WORKS_FOR, labels=["person"])


def test_docs_with_damaged_structures_are_named_or_skipped(tmp_path: Path) -> None:
    good, bad = (make_doc(structured(relations=[RELATION]), NLP, structures=True) for _ in "ab")
    bad.user_data["metaie.relations"] = [3]
    write_docbin(tmp_path / "a.spacy", [good, bad])
    with pytest.raises(BadRow, match=r"a\.spacy, doc 2: the relations in the user data"):
        convert(tmp_path / "a.spacy", tmp_path / "b.spacy", schema=WORKS_FOR)
    report = convert(tmp_path / "a.spacy", tmp_path / "b.spacy", schema=WORKS_FOR, skip_bad=True)
    assert (report.docs, report.skipped) == (1, {"damaged relations": 1})
