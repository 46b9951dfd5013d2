"""The documentation's examples run, with random weights in place of those of `en_metaie`."""

import re
from pathlib import Path
from typing import Any

import pytest
import spacy

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "docs/schemas.md"])
def test_examples_run(name: str, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = spacy.load
    monkeypatch.setattr(
        spacy, "load", lambda name: load(tiny_model_dir if name == "en_metaie" else name)
    )
    monkeypatch.chdir(ROOT)
    blocks = BLOCK.findall((ROOT / name).read_text(encoding="utf8"))
    scope: dict[str, Any] = {}
    for block in blocks:
        # The fast tagger is another architecture.
        if "en_metaie_fast" not in block:
            exec(compile(block, name, "exec"), scope)
    assert scope["doc"].has_extension("relations")
    assert len(scope["doc"])


def test_every_ready_made_schema_has_an_example() -> None:
    text = (ROOT / "docs/schemas.md").read_text(encoding="utf8")
    for path in (ROOT / "configs/schemas").iterdir():
        assert f'"configs/schemas/{path.name}"' in text
