"""`spacy train` with a file of overrides, so that a project can name sizes."""

from pathlib import Path
from typing import Any

import srsly
from spacy.cli.train import train as spacy_train


def read_overrides(path: Path) -> dict[str, Any]:
    """Read a JSON object of config settings by their dotted names.

    Raises ValueError if the file holds anything else.
    """
    if not path.is_file():
        raise ValueError(f"There is no file of overrides {str(path)!r}.")
    overrides = srsly.read_json(path)
    if not isinstance(overrides, dict) or not all("." in name for name in overrides):
        raise ValueError(
            f"{str(path)!r} must hold a JSON object of dotted settings, such as "
            '{"training.max_steps": 600}.'
        )
    return overrides


def train(config: Path, output: Path, *, overrides: Path | None = None, gpu_id: int = -1) -> None:
    """Train as `spacy train CONFIG --output OUTPUT` does, with the overrides of a file."""
    if not config.is_file():
        raise ValueError(f"There is no config {str(config)!r}.")
    spacy_train(
        config, output, use_gpu=gpu_id, overrides=read_overrides(overrides) if overrides else {}
    )
