"""project.yml is whole: its commands exist, and each makes what the next one needs."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from metaie.cli import app
from weasel.util.config import load_project_config

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return load_project_config(ROOT, interpolate=True)


def test_every_metaie_command_exists(project: dict[str, Any]) -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    used = {
        parts[3]
        for command in project["commands"]
        for parts in map(shlex.split, command["script"])
        if parts[:3] == ["python", "-m", "metaie"]
    }
    assert used
    assert used <= known


@pytest.mark.parametrize("size", ["full", "quick"])
def test_every_dep_is_made_before_or_is_in_the_repository(size: str) -> None:
    project = load_project_config(ROOT, interpolate=True, overrides={"vars.size": size})
    commands = {command["name"]: command for command in project["commands"]}
    made: set[str] = set()
    for name in project["workflows"]["all"]:
        for dep in commands[name].get("deps", []):
            assert dep in made or (ROOT / dep).exists(), (name, dep)
        # Without outputs, weasel would run a command again each time.
        assert commands[name]["outputs"], name
        made.update(commands[name]["outputs"])


def test_every_file_of_a_script_is_a_dep_or_an_output(project: dict[str, Any]) -> None:
    for command in project["commands"]:
        declared = [*command.get("deps", []), *command.get("outputs", [])]
        for part in (part for line in command["script"] for part in shlex.split(line)):
            if part.startswith(("configs/", "corpus/", "metrics/", "requirements")):
                assert part in declared, (command["name"], part)
