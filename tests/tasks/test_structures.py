from collections.abc import Callable
from pathlib import Path

import pytest
import srsly
from metaie.docbin import read_docbin, write_docbin
from metaie.tasks.structures import STRUCTURES, Relation, get_rows
from spacy.tokens import Doc, Span
from spacy.vocab import Vocab


@pytest.mark.parametrize("attr", [attr for attr in STRUCTURES if attr != "aspects"])
def test_structures_survive_a_docbin(attr: str, doc: Doc, tmp_path: Path) -> None:
    write_docbin(tmp_path / "a.spacy", [doc])
    (read,) = read_docbin(tmp_path / "a.spacy", Vocab(), require_queries=False)
    assert get_rows(read, attr) == get_rows(doc, attr) != []
    assert [one.to_dict() for one in getattr(read._, attr)] == get_rows(doc, attr)
    assert srsly.json_loads(srsly.json_dumps(get_rows(read, attr))) == get_rows(doc, attr)


def test_a_doc_has_none_until_somebody_looks(make_text: Callable[[str], Doc]) -> None:
    doc = make_text("Ada works.")
    assert doc._.relations == []
    assert get_rows(doc, "relations") is None
    doc._.relations = []
    assert get_rows(doc, "relations") == []


def test_offsets_hold_when_tokens_change(doc: Doc) -> None:
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[4:6])
    (relation,) = doc._.relations
    assert (relation.head.text, relation.tail.text) == ("Ada", "IBM")
    assert [frame.predicate.text for frame in doc._.frames] == ["praises"]


def test_a_view_of_another_text_is_refused(doc: Doc, make_text: Callable[[str], Doc]) -> None:
    row = Relation(Span(doc, 0, 1, "person"), "works for", Span(doc, 9, 10, "x")).to_dict()
    with pytest.raises(ValueError, match=r"'lab'.* is not in the doc"):
        Relation.from_dict(make_text("Ada."), row)


def test_arguments_are_read_by_role(doc: Doc) -> None:
    (event,) = doc._.events
    assert (event.trigger.text, event.type) == ("works", "employment")
    assert {role: [a.span.text for a in found] for role, found in event.arguments.items()} == {
        "employee": ["Ada"],
        "employer": ["IBM"],
    }


@pytest.mark.parametrize(
    "row",
    [
        {},
        "x",
        3,
        {"head": None, "label": "x", "tail": None, "score": 1.0},
        {
            "head": {"text": "Bob", "start": 0, "end": 3, "label": "x"},
            "label": "x",
            "tail": {"text": "Ada", "start": 0, "end": 3, "label": "x"},
            "score": 1.0,
        },
    ],
)
def test_damaged_user_data_is_named(row: object, doc: Doc) -> None:
    doc.user_data["metaie.relations"] = [row]
    with pytest.raises(ValueError, match="the relations in the user data of the doc 'Ada works"):
        _ = doc._.relations


def test_part_of_a_doc_has_not_the_structures_of_the_whole(doc: Doc) -> None:
    part = doc[5:].as_doc(copy_user_data=True)
    with pytest.raises(ValueError, match="of another text"):
        _ = part._.relations
