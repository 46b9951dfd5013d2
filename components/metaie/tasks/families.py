"""The six families' schemas, read from files and configs."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import srsly
from pydantic import ValidationError

from ..rows import shorten
from .aspects import AspectSchema
from .entities import EntitySchema
from .events import EventSchema
from .relations import RelationSchema
from .roles import RoleSchema
from .schema import Schema
from .triplets import TripletSchema

FAMILIES: dict[str, type[Schema]] = {
    "entities": EntitySchema,
    "relations": RelationSchema,
    "events": EventSchema,
    "roles": RoleSchema,
    "aspects": AspectSchema,
    "triplets": TripletSchema,
}


def parse_schema(value: Mapping[str, Any]) -> Schema:
    """Make a schema of what JSON, TOML or a config holds.

    Raises ValueError that says what is wrong where.
    """
    names = ", ".join(map(repr, FAMILIES))
    if not isinstance(value, Mapping) or "family" not in value:
        raise ValueError(
            f"A schema is an object with a 'family', one of {names}, not {shorten(value)}."
        )
    schema = FAMILIES.get(value["family"]) if isinstance(value["family"], str) else None
    if schema is None:
        raise ValueError(f"There is no family {shorten(value['family'])}. It is one of {names}.")
    try:
        return schema.model_validate(value)
    except ValidationError as err:
        problems = "; ".join(map(describe, err.errors()))
        raise ValueError(f"The schema of {value['family']} is not right: {problems}.") from None


def describe(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors in one line: where, and what."""
    place = ".".join(map(str, error["loc"]))
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    if error["type"] in ("missing", "extra_forbidden"):
        message = {"missing": "is missing", "extra_forbidden": "is not known"}[error["type"]]
    return f"{place}: {message}" if place else message


def read_schema(path: Path) -> Schema:
    """Read a schema from a .json or .toml file. Raises ValueError, naming it."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no schema {str(path)!r}.")
    try:
        if path.suffix == ".toml":
            return parse_schema(tomllib.loads(path.read_text(encoding="utf8")))
        if path.suffix == ".json":
            return parse_schema(srsly.read_json(path))
    except ValueError as err:
        raise ValueError(f"{str(path)!r}: {err}") from err
    raise ValueError(f"The schema {str(path)!r} must end with .json or .toml.")
