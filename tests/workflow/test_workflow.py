"""The whole workflow, by weasel, on a few passages and a tiny transformer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import srsly

ROOT = Path(__file__).parents[2]
# What the rest of `all` does needs the network; see tests/test_base.py and test_package.py.
COMMANDS = ["annotate", "train", "evaluate", "package", "demo"]


@pytest.fixture
def project(tmp_path: Path, tiny_base: Path) -> Path:
    """A copy of the project with few texts, a tiny base and a tiny size."""
    for name in ("project.yml", "setup.py", "pyproject.toml", "README.md", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("components", "configs", "corpus/teacher"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    (tmp_path / "corpus/texts").mkdir()
    for path in sorted((ROOT / "corpus/texts").glob("*.jsonl"))[:3]:
        rows = list(srsly.read_jsonl(path))[:40]
        srsly.write_jsonl(tmp_path / "corpus/texts" / path.name, rows)
    shutil.copytree(tiny_base, tmp_path / "assets/base")
    srsly.write_json(
        tmp_path / "configs/size/tiny.json",
        {
            "training.max_steps": 4,
            "training.eval_frequency": 2,
            "training.optimizer.learn_rate.warmup_steps": 1,
            "corpora.dev.limit": 2,
            "components.metaie.threshold": 0.3,
        },
    )
    return tmp_path


def weasel(project: Path, command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "weasel", "run", command, ".", "--vars.size", "tiny"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


@pytest.mark.slow
def test_from_texts_to_a_wheel_and_nothing_twice(project: Path) -> None:
    for command in COMMANDS:
        weasel(project, command)
    for made in (
        "corpus/test.spacy",
        "training/distill/model-best/meta.json",
        "metrics/distill.svg",
        "packages/en_metaie-0.1.0-py3-none-any.whl",
        "packages/metaie-0.1.0-py3-none-any.whl",
        "demo.html",
    ):
        assert (project / made).exists(), made
    metrics = srsly.read_json(project / "metrics/distill.json")
    assert metrics["docs"] > 0
    assert metrics["queries"] > metrics["docs"]
    for command in COMMANDS[:-1]:
        assert "nothing changed" in weasel(project, command), command

    # A changed config runs what depends on it, and no more.
    config = project / "configs/distill.cfg"
    config.write_text(config.read_text("utf8") + "\n# changed\n", encoding="utf8")
    assert "nothing changed" in weasel(project, "annotate")
    assert "Running command" in weasel(project, "train")
