import itertools
import json
import os
import re
import subprocess
import sys
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import networkx
import pytest
import rdflib
import spacy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from metaie.docbin import write_docbin
from metaie.graph import graph, write_graphml, write_turtle
from metaie.graph_building import build_graph, normalize
from metaie.graph_picture import draw_graph
from metaie.tasks.structures import Relation
from rdflib import RDF, RDFS
from spacy.tokens import Doc, Span

VOCAB = spacy.blank("en").vocab
Entity = tuple[str, str]
Triple = tuple[Entity, str, Entity]

ADA, CHARLES = ("Ada Lovelace", "person"), ("Charles Babbage", "person")
LONDON, LIBRARY = ("London", "city"), ("Library", "organization")

SCHEMA = {
    "family": "relations",
    "entities": ["thing"],
    "relations": ["stands by: thing -> thing"],
}
NASTY = [
    "\x00", "\x1b[31m", "\x7f", "\x85", "\r\n", "\t", "\ufffe", "\uffff", '"', "'''", '"""', "\\",
    "\\u0041", "\\n", "<a&b>", "]]>", "{x}", "%41", "$x^2$", "$\\frac{", "_x", ".", "..", "/",
    "#", "?", ":", ";", "a.", "@en", "^^", "שלום", "\u202e", "\u200b", "\u2066", "e\u0301", "ﬁ",
    "İ", "ß", "😀", "👩‍👩‍👧", "\U0010ffff", "\U000e0041", "\ue000", "\u2028", "`", "|", "--",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(NASTY) | st.text(max_size=3), min_size=1, max_size=4).map("".join)
ENTITIES = st.tuples(TEXTS.filter(bool), TEXTS)


def make_doc(*triples: Triple, scores: list[float] | None = None, **user_data: Any) -> Doc:
    """A doc with each entity of the triples as a token of its own."""
    entities = [end for head, _, tail in triples for end in (head, tail)]
    doc = Doc(VOCAB, words=[text for text, _ in entities])
    doc.user_data.update(user_data)
    spans = [Span(doc, i, i + 1, label=label) for i, (_, label) in enumerate(entities)]
    doc._.relations = [
        Relation(spans[2 * i], label, spans[2 * i + 1], scores[i] if scores else 1.0)
        for i, (_, label, _) in enumerate(triples)
    ]
    return doc


def sort_edges(edges: Iterable[tuple[str, str, dict[str, Any]]]) -> list[Any]:
    return sorted((head, tail, sorted(data.items())) for head, tail, data in edges)


def keep_xml(data: dict[str, Any]) -> dict[str, Any]:
    """The attributes, with U+FFFD for what is not among the characters of XML 1.0."""
    ranges = [(0x9, 0xA), (0xD, 0xD), (0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF)]

    def keep(char: str) -> str:
        return char if any(low <= ord(char) <= high for low, high in ranges) else "\ufffd"

    return {
        name: "".join(map(keep, value)) if isinstance(value, str) else value
        for name, value in data.items()
    }


def encode(text: str) -> str:
    return {".": "%2E", "..": "%2E%2E"}.get(text, quote(text, safe=""))


def read_svg(path: Path) -> list[str]:
    """The texts in a picture; fails unless it is XML."""
    return [
        "".join(element.itertext())
        for element in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")
    ]


def test_mentions_of_one_type_and_text_are_one_node() -> None:
    built = build_graph(
        [
            make_doc((("ADA  Lovelace", "person"), "lives in", LONDON)),
            make_doc((ADA, "lives in", LONDON), (ADA, "runs", LIBRARY)),
            make_doc((("Ada\nLovelace", "person"), "runs", ("ＬＯＮＤＯＮ", "city"))),
            make_doc((("London", "person"), "runs", LIBRARY)),
        ]
    )
    assert dict(built.nodes(data=True)) == {
        "person/ada%20lovelace": {"label": "Ada Lovelace", "type": "person", "mentions": 4},
        "city/london": {"label": "London", "type": "city", "mentions": 3},
        "organization/library": {"label": "Library", "type": "organization", "mentions": 2},
        "person/london": {"label": "London", "type": "person", "mentions": 1},
    }
    assert isinstance(built, networkx.MultiDiGraph)


def test_of_forms_that_are_as_frequent_the_first_is_the_label() -> None:
    forms = ["ada", "ADA", "Ada", "ADA", "Ada"]
    built = build_graph(make_doc(((form, "person"), "runs", LIBRARY)) for form in forms)
    assert built.nodes["person/ada"]["label"] == "ADA"
    assert built.nodes["person/ada"]["mentions"] == 5


def test_a_mention_in_many_relations_is_counted_once() -> None:
    doc = Doc(VOCAB, words=["Ada", "London", "Paris", "Ada"])
    ada, london, paris, again = (
        Span(doc, i, i + 1, label=label)
        for i, label in enumerate(["person", "city", "city", "person"])
    )
    doc._.relations = [
        Relation(ada, "lives in", london),
        Relation(ada, "lives in", paris),
        Relation(ada, "born in", london),
        Relation(again, "lives in", london),
    ]
    built = build_graph([doc])
    mentions = {name: data["mentions"] for name, data in built.nodes(data=True)}
    assert mentions == {"person/ada": 2, "city/london": 1, "city/paris": 1}


def test_an_edge_counts_how_often_and_keeps_the_best_score_and_where() -> None:
    built = build_graph(
        [
            make_doc((ADA, "met", CHARLES), (ADA, "met", CHARLES), scores=[0.5, 0.75]),
            make_doc((ADA, "met", CHARLES), scores=[0.25], id="d 2"),
            make_doc((CHARLES, "met", ADA), scores=[0.5], id=7),
            make_doc((ADA, "wrote to", CHARLES), scores=[0.5], id=""),
            make_doc((ADA, "wrote to", CHARLES), scores=[1], id=None),
        ]
    )
    ada, charles = "person/ada%20lovelace", "person/charles%20babbage"
    assert {edge[:3]: edge[3] for edge in built.edges(keys=True, data=True)} == {
        (ada, charles, "met"): {"label": "met", "weight": 3, "score": 0.75, "docs": "0 d_2"},
        (charles, ada, "met"): {"label": "met", "weight": 1, "score": 0.5, "docs": "7"},
        (ada, charles, "wrote to"): {
            "label": "wrote to",
            "weight": 2,
            "score": 1.0,
            "docs": "3 4",
        },
    }


def test_an_edge_names_only_the_first_docs() -> None:
    built = build_graph(make_doc((ADA, "met", CHARLES), id=f"d{i // 2}") for i in range(60))
    [(_, _, data)] = built.edges(data=True)
    assert data["docs"].split(" ") == [f"d{i}" for i in range(20)]
    assert data["weight"] == 60


def test_entities_without_relations_and_blank_ones_are_left_out() -> None:
    nothing = Doc(VOCAB, words=["Paris"])
    nothing.spans["metaie"] = [Span(nothing, 0, 1, label="city")]
    built = build_graph(
        [
            nothing,
            make_doc((("\n\n", "person"), "lives in", ("Rome", "city"))),
            make_doc((ADA, "lives in", LONDON)),
        ]
    )
    assert set(built) == {"person/ada%20lovelace", "city/london"}


def test_docs_are_not_held() -> None:
    held: list[int] = []

    def stream() -> Iterator[Doc]:
        refs: list[weakref.ref[Doc]] = []
        for _ in range(5):
            doc = make_doc((ADA, "lives in", LONDON))
            refs.append(weakref.ref(doc))
            yield doc
            del doc
            held.append(sum(ref() is not None for ref in refs))

    build_graph(stream())
    # The one that was yielded is still the consumer's.
    assert held == [1] * 5


@pytest.mark.parametrize(
    ("texts", "normal"),
    [
        (["Straße", "STRASSE", " strasse\u00a0"], "strasse"),
        (["ﬁne  art", "FINE\nART", "fine\u2003art"], "fine art"),
        (["Café", "cafe\u0301", "CAFE\u0301"], "caf\u00e9"),
        (["①", "1"], "1"),
    ],
)
def test_texts_are_compared_without_case_width_and_white_space(
    texts: list[str], normal: str
) -> None:
    assert {normalize(text) for text in texts} == {normal}


@given(TEXTS)
def test_what_is_normal_stays_as_it_is(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@given(st.lists(st.tuples(ENTITIES, TEXTS, ENTITIES), max_size=4))
@example([((one, two), one, (two, one)) for one, two in itertools.pairwise(NASTY)])
@example([((text, ""), "", (text, text)) for text in NASTY])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_comes_back_from_files(tmp_path: Path, triples: list[Triple]) -> None:
    built = build_graph([make_doc(*triples, id="".join(label for _, label, _ in triples))])

    write_graphml(built, tmp_path / "a.graphml")
    back = networkx.read_graphml(tmp_path / "a.graphml", force_multigraph=True)
    assert dict(back.nodes(data=True)) == {
        name: keep_xml(data) for name, data in built.nodes(data=True)
    }
    edges = [(head, tail, keep_xml(data)) for head, tail, data in built.edges(data=True)]
    assert sort_edges(back.edges(data=True)) == sort_edges(edges)
    assert len({key for *_, key in back.edges(keys=True)}) == len(edges)

    namespace = "http://example.org/kg#"
    write_turtle(built, tmp_path / "a.ttl", namespace)
    parsed = rdflib.Graph().parse(tmp_path / "a.ttl", format="turtle")
    rows = {tuple(str(part).removeprefix(namespace) for part in row) for row in parsed}
    expected = set()
    for name, data in built.nodes(data=True):
        expected.add((f"entity/{name}", str(RDFS.label), keep_xml(data)["label"]))
        if data["type"]:
            kind = f"type/{encode(data['type'])}"
            expected.add((f"entity/{name}", str(RDF.type), kind))
            expected.add((kind, str(RDFS.label), keep_xml(data)["type"]))
    for head, tail, data in built.edges(data=True):
        relation = f"relation/{encode(data['label'])}"
        expected.add((f"entity/{head}", relation, f"entity/{tail}"))
        expected.add((relation, str(RDFS.label), keep_xml(data)["label"]))
    assert rows == expected


@given(ENTITIES)
def test_names_of_nodes_hold_type_and_text(entity: Entity) -> None:
    built = build_graph([make_doc((entity, "is", ADA))])
    text, kind = (normalize(entity[0]), " ".join(entity[1].split()))
    if text:
        assert [unquote(part) for part in next(iter(built)).split("/")] == [kind, text]
        assert not {".", ".."} & set(next(iter(built)).split("/"))
        assert re.fullmatch(r"[\w.~%/-]+", next(iter(built)), re.ASCII)
    else:
        assert not len(built)


def test_lone_surrogates_and_names_of_graphs_made_elsewhere(tmp_path: Path) -> None:
    built = networkx.MultiDiGraph()
    built.add_node("<a> \ud800", label="a\ud800", type="t\udfff")
    built.add_edge("<a> \ud800", "<a> \ud800", label="is\ud800")
    write_graphml(built, tmp_path / "a.graphml")
    back = networkx.read_graphml(tmp_path / "a.graphml")
    assert dict(back.nodes(data=True)) == {"<a> \ufffd": {"label": "a\ufffd", "type": "t\ufffd"}}
    write_turtle(built, tmp_path / "a.ttl")
    parsed = rdflib.Graph().parse(tmp_path / "a.ttl")
    assert {str(label) for label in parsed.objects(predicate=RDFS.label)} == {
        "a\ufffd",
        "t\ufffd",
        "is\ufffd",
    }
    draw_graph(built, tmp_path / "a.svg")
    assert "a\ufffd" in read_svg(tmp_path / "a.svg")


def test_a_graph_that_was_read_back_is_written_as_before(tmp_path: Path) -> None:
    built = build_graph([make_doc((ADA, "met", CHARLES), (ADA, "lives in", LONDON))])
    write_graphml(built, tmp_path / "a.graphml")
    back = networkx.read_graphml(tmp_path / "a.graphml", force_multigraph=True)
    for number, one in enumerate((built, back)):
        write_turtle(one, tmp_path / f"{number}.ttl")
    assert (tmp_path / "0.ttl").read_bytes() == (tmp_path / "1.ttl").read_bytes()


@pytest.mark.parametrize(
    "namespace",
    [
        "http://example.org/",
        "https://example.org:8080/kg/%C3%A9#",
        "HTTP://[::1]/",
        "http://bücher.example/ü/",
        "urn:example:kg/",
    ],
)
def test_namespaces(tmp_path: Path, namespace: str) -> None:
    built = build_graph([make_doc((ADA, "lives in", LONDON))])
    write_turtle(built, tmp_path / "new" / "a.ttl", namespace)
    parsed = rdflib.Graph().parse(tmp_path / "new" / "a.ttl")
    assert rdflib.URIRef(f"{namespace}entity/city/london") in set(parsed.objects())


@pytest.mark.parametrize(
    ("namespace", "message"),
    [
        ("", "not an absolute IRI"),
        ("example.org/", "not an absolute IRI"),
        ("/kg/", "not an absolute IRI"),
        ("ftp://example.org/", "not an absolute IRI"),
        ("javascript:alert(1)/", "not an absolute IRI"),
        ("http:///", "not an absolute IRI"),
        ("http://[::1/", "not an absolute IRI"),
        ("urn:/", "not an absolute IRI"),
        ("http://example.org", "does not end with / or #"),
        ("urn:example:kg:", "does not end with / or #"),
        ("http://example.org/#a/", "has a # before its end"),
        ("http://example.org/a b/", "holds ' ', which"),
        ("http://example.org/>\n<a> <b> <c> .#/", "holds '>', which"),
        ("http://example.org/\n/", r"holds '\\n', which"),
        (" http://example.org/", "holds ' ', which"),
        ("http://example.org/\ud800/", r"holds '\\ud800', which"),
        ("http://example.org/%zz/", "holds '%', which"),
        ('http://example.org/"/', "holds '\"', which"),
    ],
)
def test_bad_namespaces_are_named(tmp_path: Path, namespace: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        write_turtle(networkx.MultiDiGraph(), tmp_path / "a.ttl", namespace)
    assert repr(namespace) in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_picture_says_how_much_of_the_graph_it_shows(tmp_path: Path) -> None:
    docs = [make_doc((ADA, "knows", (f"Friend {i}", "friend"))) for i in range(9)]
    docs.append(make_doc((("Friend 7", "friend"), "lives in", LONDON)))
    built = build_graph(docs)
    draw_graph(built, tmp_path / "a.svg", max_nodes=3)
    texts = read_svg(tmp_path / "a.svg")
    assert "3 of 11 entities, those with the most relations" in texts
    assert {text for text in texts if "Friend" in text} == {"Friend 7", "Friend 0"}
    assert texts.count("knows") == 2
    assert {"person", "friend", "Ada Lovelace"} <= set(texts)
    assert not {"city", "lives in", "London"} & set(texts)
    draw_graph(built, tmp_path / "a.svg", max_nodes=11)
    assert "11 of 11 entities" in read_svg(tmp_path / "a.svg")


def test_the_picture_shows_texts_as_they_are(tmp_path: Path) -> None:
    built = build_graph(
        [
            make_doc(
                (("$x^2$ \\frac{", "_type"), "costs $ & <b>", ("a\x1b[0m\u202eb", "$t$")),
                (("x" * 40, ""), "is", ("x" * 40, "")),
                (("שלום", "😀"), "is 李", ("--><script>", "]]>")),
            )
        ]
    )
    draw_graph(built, tmp_path / "a.svg")
    texts = read_svg(tmp_path / "a.svg")
    assert {
        "$x^2$ \\frac{", "_type", "costs $ & <b>", r"a\x1b[0m\u202eb", "$t$", "x" * 24 + "…",
        "no type", "שלום", "😀", "is 李", "--><script>", "]]>",
    } <= set(texts)  # fmt: skip


@given(st.lists(st.tuples(ENTITIES, TEXTS, ENTITIES), min_size=1, max_size=3))
@example([((one, two), one, (two, one)) for one, two in zip(NASTY[::2], NASTY[1::2])])
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_can_be_drawn(tmp_path: Path, triples: list[Triple]) -> None:
    built = build_graph([make_doc(*triples, (ADA, "met", CHARLES))])
    for suffix in ("svg", "png", "pdf"):
        draw_graph(built, tmp_path / f"a.{suffix}", max_nodes=499)
    assert "Ada Lovelace" in read_svg(tmp_path / "a.svg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_equal_graphs_give_equal_files_in_every_process(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from metaie.graph import write_graphml, write_turtle
from metaie.graph_picture import draw_graph
assert not {"networkx", "rdflib", "matplotlib"} & set(sys.modules)
import networkx
graph = networkx.read_graphml(sys.argv[1], force_multigraph=True)
for suffix in ("svg", "pdf", "png"):
    draw_graph(graph, Path(sys.argv[2], f"a.{suffix}"), 6)
write_turtle(graph, Path(sys.argv[2], "a.ttl"))
write_graphml(graph, Path(sys.argv[2], "a.graphml"))
"""
    built = build_graph(
        make_doc(((f"a{i % 5}", "person"), f"likes {i}", (f"b{i % 3}", "x"))) for i in range(15)
    )
    path, other = tmp_path / "a.graphml", tmp_path / "other"
    write_graphml(built, path)
    built = networkx.read_graphml(path, force_multigraph=True)
    for suffix in ("svg", "pdf", "png"):
        draw_graph(built, tmp_path / f"a.{suffix}", 6)
    write_turtle(built, tmp_path / "a.ttl")
    subprocess.run(
        [sys.executable, "-c", script, path, other],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    for suffix in ("svg", "pdf", "png", "ttl", "graphml"):
        name = f"a.{suffix}"
        assert (tmp_path / name).read_bytes() == (other / name).read_bytes(), name


def test_pictures_that_cannot_be_drawn(tmp_path: Path) -> None:
    built = build_graph([make_doc((ADA, "lives in", LONDON))])
    with pytest.raises(ValueError, match=r"a\.gif' must end with \.svg, \.png, \.pdf"):
        draw_graph(built, tmp_path / "a.gif")
    for number in (0, 500):
        with pytest.raises(ValueError, match=f"max_nodes must be from 1 to 499, not {number}"):
            draw_graph(built, tmp_path / "a.svg", number)
    with pytest.raises(ValueError, match=r"No relation was found.*`--threshold 0\.2`"):
        draw_graph(build_graph([]), tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())


def test_an_empty_graph_can_be_written(tmp_path: Path) -> None:
    write_graphml(build_graph([]), tmp_path / "a.graphml")
    write_turtle(build_graph([]), tmp_path / "a.ttl")
    assert len(networkx.read_graphml(tmp_path / "a.graphml")) == 0
    assert len(rdflib.Graph().parse(tmp_path / "a.ttl")) == 0


def write_schema(path: Path, **schema: Any) -> Path:
    path.write_text(json.dumps(schema or SCHEMA))
    return path


def test_files_become_a_graph(eager_model_dir: Path, tmp_path: Path) -> None:
    lines, rows, docs = tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "c.spacy"
    lines.write_text("Ada Rome\n\nAda London\n")
    rows.write_text('{"text": "ada London", "id": "row", "queries": ["date"]}')
    doc = spacy.blank("en").make_doc("LONDON Ada")
    doc.user_data["id"] = "doc"
    write_docbin(docs, [doc])
    output = tmp_path / "new" / "out"
    built = graph(
        str(eager_model_dir),
        write_schema(tmp_path / "schema.json"),
        iter([lines, rows, docs]),
        output=output,
        threshold=0.75,
        namespace="https://example.com/kg#",
        batch_size=2,
    )
    assert dict(built.nodes(data=True)) == {
        "thing/ada": {"label": "Ada", "type": "thing", "mentions": 4},
        "thing/rome": {"label": "Rome", "type": "thing", "mentions": 1},
        "thing/london": {"label": "London", "type": "thing", "mentions": 3},
    }
    assert {
        (head, label, tail, data["weight"], data["docs"])
        for head, tail, label, data in built.edges(keys=True, data=True)
    } == {
        ("thing/ada", "stands by", "thing/rome", 1, "0"),
        ("thing/rome", "stands by", "thing/ada", 1, "0"),
        ("thing/ada", "stands by", "thing/london", 3, "1 row doc"),
        ("thing/london", "stands by", "thing/ada", 3, "1 row doc"),
    }
    assert all(0.75**2 <= score <= 1 for *_, score in built.edges(data="score"))
    back = networkx.read_graphml(output / "graph.graphml", force_multigraph=True)
    assert dict(back.nodes(data=True)) == dict(built.nodes(data=True))
    assert sort_edges(back.edges(data=True)) == sort_edges(built.edges(data=True))
    start = "https://example.com/kg#"
    relation = rdflib.URIRef(f"{start}relation/stands%20by")
    assert {
        (str(head), str(tail))
        for head, tail in rdflib.Graph().parse(output / "graph.ttl").subject_objects(relation)
    } == {(f"{start}entity/{head}", f"{start}entity/{tail}") for head, tail in built.edges()}
    assert "3 of 3 entities" in read_svg(output / "graph.svg")


def test_whole_files_are_one_text(eager_model_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("Ada London\nRome Berlin\n")
    schema = write_schema(tmp_path / "schema.json")
    for whole_files, docs in ((False, {"0", "1"}), (True, {"0"})):
        built = graph(
            str(eager_model_dir),
            schema,
            [path],
            output=tmp_path,
            whole_files=whole_files,
            input_format="text",
        )
        assert {data["docs"] for *_, data in built.edges(data=True)} == docs
        assert built.has_edge("thing/ada", "thing/rome") == whole_files


def test_where_nothing_is_found_nothing_is_written(tiny_model_dir: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "a.txt", tmp_path / "out"
    path.write_text("Ada met Charles.")
    schema = write_schema(tmp_path / "schema.json")
    with pytest.raises(ValueError, match="No relation was found"):
        graph(str(tiny_model_dir), schema, [path], output=output, threshold=1.0)
    assert not output.exists()


def test_settings_are_checked_before_the_pipeline_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(schema: Path, path: Path = Path("-"), **settings: Any) -> None:
        graph("no such pipeline", schema, [path], **{"output": tmp_path / "out", **settings})

    schema = write_schema(tmp_path / "schema.json")
    entities = write_schema(tmp_path / "e.json", family="entities", entities=["person"])
    with pytest.raises(ValueError, match=r"e\.json' is of the family 'entities'"):
        run(entities)
    with pytest.raises(FileNotFoundError, match=r"nope\.json"):
        run(tmp_path / "nope.json")
    with pytest.raises(ValueError, match="namespace 'kg' is not an absolute IRI"):
        run(schema, namespace="kg")
    with pytest.raises(FileNotFoundError, match=r"nope\.txt"):
        run(schema, Path("nope.txt"))
    with pytest.raises(ValueError, match=r"schema\.json' is a file: name a folder"):
        run(schema, output=schema)
    with pytest.raises(ValueError, match="Can't load the pipeline 'no such pipeline'"):
        run(schema)
    for library in ("networkx", "rdflib", "matplotlib"):
        with monkeypatch.context() as patch:
            # How Python marks a module that cannot be imported.
            patch.setitem(sys.modules, library, None)
            with pytest.raises(ValueError, match=r'pip install "metaie\[graph\]"'):
                run(schema)
