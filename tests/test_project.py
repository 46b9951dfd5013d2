"""project.yml is whole: its commands exist, and each makes what the next one needs.

So are the commands in the comments of configs.
"""

import shlex
from pathlib import Path
from typing import Any

import pytest
import spacy.cli
import typer
from metaie.cli import app, separate_settings
from spacy.cli._util import parse_config_overrides
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


def find_commands(config: Path) -> list[list[str]]:
    """The commands of a config's comments, `python -m` left out, as a shell parts them."""
    comments = [line[1:] for line in config.read_text().splitlines() if line.startswith("#")]
    joined = "\n".join(comments).replace("\\\n", " ")
    return [
        shlex.split(line)[2:]
        for line in joined.splitlines()
        if line.lstrip().startswith("python -m ")
    ]


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.cfg")), ids=lambda p: p.name)
def test_commands_in_the_comments_of_configs_are_whole(config: Path) -> None:
    commands = find_commands(config)
    assert commands
    for program, name, *arguments in commands:
        group = typer.main.get_command({"metaie": app, "spacy": spacy.cli.app}[program])
        command = group.commands[name]  # type: ignore[attr-defined]
        # Raises what the command line shows: an option that is missing, or unknown.
        context = command.make_context(name, arguments)
        if program == "metaie":
            assert context.params["config"] == Path("configs") / config.name
            paths, _ = separate_settings(context.params["texts"])
            assert len(paths) == 1
        else:
            assert context.params["config_path"] == Path("configs") / config.name
            parse_config_overrides(context.args)
