from pathlib import Path
from typing import Any

import pytest
import srsly
from annotated import SCHEMAS
from metaie.tasks.families import FAMILIES, parse_schema, read_schema


@pytest.mark.parametrize("family", FAMILIES)
def test_a_schema_survives_json(family: str) -> None:
    schema = parse_schema(SCHEMAS[family])
    assert parse_schema(srsly.json_loads(srsly.json_dumps(schema.to_dict()))) == schema


def test_a_relation_is_read_from_a_line() -> None:
    schema = parse_schema(
        {
            "family": "relations",
            "entities": ["company", "agency", "city"],
            "relations": [" based  in : company | agency → city"],
        }
    )
    assert schema.to_dict()["relations"] == [
        {"label": "based in", "head": ["company", "agency"], "tail": ["city"]}
    ]


def relations(*lines: str, entities: tuple[str, ...] = ("a", "b"), **more: Any) -> dict[str, Any]:
    return {"family": "relations", "entities": list(entities), "relations": list(lines), **more}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "with a 'family'"),
        ({"entities": ["a"]}, "with a 'family'"),
        ({"family": "poems"}, "no family 'poems'"),
        ({"family": ["entities"]}, "no family"),
        ({"family": "entities"}, "entities: is missing"),
        ({"family": "entities", "entities": [2024]}, "must be a string, not int: 2024"),
        ({"family": "roles", "roles": ["agent"], "predicate": None}, "must be a string"),
        (relations("r: a -> b", query="{head} {relation} {bad name}"), "no other name in braces"),
        ({"family": "entities", "entities": []}, "the list is empty"),
        ({"family": "entities", "entities": ["a", " "]}, "entities.1: .*is empty"),
        ({"family": "entities", "entities": ["a", "\u200b\u2060"]}, "entities.1: .*is empty"),
        ({"family": "entities", "entities": ["${a}"]}, "configs read as a variable"),
        ({"family": "entities", "entities": ["a b", "a  b"]}, "more than once: 'a b'"),
        ({"family": "entities", "entities": ["a"], "labels": ["b"]}, "labels: is not known"),
        (relations(), "relations: the list is empty"),
        (relations("r: a -> c"), "tail of the relation 'r' .* 'c'"),
        (relations("r: x -> b"), "head of the relation 'r' .* no query would find it: 'x'"),
        (relations("r: a -> b", "r: b -> a"), "relations: named more than once: 'r'"),
        (relations("r: a - b"), "'r: a - b' is not written as"),
        (relations("r: a -> b", query="{head}"), "must hold {head} and {relation}"),
        (relations("r: a -> b", query="{head} {relation} {x}"), "no other name in braces"),
        ({"family": "events", "events": []}, "events: the list is empty"),
        (
            {"family": "events", "events": [{"type": "e", "roles": ["r"]}] * 2},
            "events: named more than once: 'e'",
        ),
        ({"family": "events", "events": [{"type": "e", "roles": ["r", "r"]}]}, "more than once"),
        ({"family": "roles", "roles": "agent"}, "roles"),
    ],
)
def test_what_is_wrong_with_a_schema_is_said(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_schema(value)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.toml"):
        read_schema(tmp_path / "no.toml")
    for name, text in (("a.toml", "family ="), ("b.json", "{"), ("c.json", "[]"), ("d.yaml", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            read_schema(tmp_path / name)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs/schemas").iterdir()), ids=lambda p: p.stem
)
def test_ready_made_schemas_are_right(path: Path) -> None:
    assert read_schema(path).labels()


def test_every_family_has_a_ready_made_schema() -> None:
    folder = Path(__file__).parents[2] / "configs/schemas"
    assert {read_schema(path).family for path in folder.iterdir()} == set(FAMILIES)
