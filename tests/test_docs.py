"""The examples in docs/ run, on a pipeline with random weights in place of `en_metaie`."""

import re
from pathlib import Path
from typing import Any

import pytest
import spacy

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_examples_of_schemas_run(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = spacy.load
    monkeypatch.setattr(
        spacy, "load", lambda name: load(tiny_model_dir if name == "en_metaie" else name)
    )
    monkeypatch.chdir(ROOT)
    blocks = BLOCK.findall((ROOT / "docs/schemas.md").read_text(encoding="utf8"))
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/schemas.md", "exec"), scope)
    assert scope["doc"].text.startswith("The screen")


def test_every_ready_made_schema_has_an_example() -> None:
    text = (ROOT / "docs/schemas.md").read_text(encoding="utf8")
    for path in (ROOT / "configs/schemas").iterdir():
        assert f'"configs/schemas/{path.name}"' in text
