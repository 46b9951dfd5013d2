import pytest
from annotated import NLP, ROW, SCHEMAS
from metaie.convert import make_doc
from metaie.tasks.draft import draft_schema
from metaie.tasks.families import FAMILIES
from spacy.tokens import Doc

DRAFTED: dict[str, dict[str, object]] = {
    "entities": {
        "entities": [
            *("person", "company", "employment", "predicate", "positive aspect", "opinion"),
        ]
    },
    "relations": {
        "relations": [{"label": "works for", "head": ["person"], "tail": ["company"]}],
    },
    "events": {"events": [{"type": "employment", "roles": ["employee", "employer"]}]},
    "roles": {"roles": ["agent", "patient"]},
    "aspects": {"polarities": ["positive"]},
    "triplets": {"polarities": ["positive"]},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_all_that_occurs_is_drafted(family: str, doc: Doc) -> None:
    schema = draft_schema([doc], family).to_dict()
    assert schema.items() >= DRAFTED[family].items()


def test_what_is_rare_is_left_out(doc: Doc) -> None:
    schema = draft_schema([doc], "entities", min_count=2)
    assert schema.labels() == ["person"]
    # One slip of the annotation in a hundred heads.
    slip = make_doc(
        {**ROW, "relations": [{"head": 1, "tail": 1, "label": "works for"}]}, NLP, structures=True
    )
    relations = draft_schema([*[doc] * 99, slip], "relations").to_dict()["relations"]
    assert relations == DRAFTED["relations"]["relations"]


def test_events_may_have_no_arguments() -> None:
    event = {"trigger": 3, "label": "employment"}
    doc = make_doc({**ROW, "events": [event, event]}, NLP, structures=True)
    drafted = draft_schema([doc], "events", min_count=2).to_dict()["events"]
    assert drafted == [{"type": "employment", "roles": []}]


def test_nothing_to_draft_is_an_error(doc: Doc) -> None:
    with pytest.raises(ValueError, match="no family 'poems'"):
        draft_schema([doc], "poems")
    bare = NLP.make_doc("Ada")
    for family in SCHEMAS:
        with pytest.raises(ValueError, match="schema of"):
            draft_schema([bare], family)
