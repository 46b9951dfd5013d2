"""The few-shot benchmark, on a tiny transformer and one sentence a data set."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import srsly
from annotated import ROW
from oracle import ORACLE_CONFIG

ROOT = Path(__file__).parents[2]
FAMILIES = ["absa", "aste", "ee", "ner", "re", "srl"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of each family."""
    for family in FAMILIES:
        folder = tmp_path / "data" / family / "tiny"
        (folder / "fewshot").mkdir(parents=True)
        # Roles that are rare are left out.
        srsly.write_jsonl(folder / "train.jsonl", [ROW] * 50)
        srsly.write_jsonl(folder / "test.jsonl", [ROW] * 2)
        srsly.write_jsonl(folder / "fewshot" / "5-per-label.seed3.jsonl", [ROW])
    return tmp_path / "data"


@pytest.fixture
def fewshot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_base: Path, data: Path) -> Any:
    """Run the benchmark with further arguments; gives its records."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import fewshot

    config = (ROOT / "configs/fewshot.cfg").read_text(encoding="utf8")
    (tmp_path / "two_steps.cfg").write_text(config.replace("max_steps = 200", "max_steps = 2"))
    output = tmp_path / "results" / "fewshot.json"

    def run(*args: object) -> list[dict[str, Any]]:
        fixed = ["--data", data, "--seeds", 3, "--output", output, "--base-model", tiny_base]
        fixed += ["--config", tmp_path / "two_steps.cfg", *args]
        monkeypatch.setattr(sys, "argv", ["fewshot.py", *map(str, fixed)])
        fewshot.main()
        return list(json.loads(output.read_text()))

    return run


def test_every_family_is_measured_and_done_runs_are_not_repeated(
    fewshot: Callable[..., list[dict[str, Any]]], tiny_model_dir: Path, tmp_path: Path
) -> None:
    records = fewshot("--sets", "ner/tiny", "--init", "base")
    assert [(r["set"], r["family"], r["init"], r["seed"]) for r in records] == [
        ("ner/tiny", "ner", "base", 3)
    ]
    inits = ["base", f"en_metaie={tiny_model_dir}", f"zero_shot={tiny_model_dir}*"]
    records[0]["f1"] = 12.5  # what a run would not give
    srsly.write_json(tmp_path / "results" / "fewshot.json", records)
    records = fewshot("--sets", "all", "--init", *inits)
    assert records[0]["f1"] == 12.5
    measures = {(r["set"].split("/")[0], r["measure"]) for r in records}
    assert measures == {
        *(("absa", "span"), ("aste", "triplet"), ("ee", "argument"), ("ee", "trigger")),
        *(("ner", "span"), ("re", "relation"), ("re", "relation, gold heads")),
        ("srl", "argument, gold predicates"),
    }
    assert len(records) == 3 * len(measures)
    assert all(0 <= r["f1"] <= 100 and r["n_test"] == 2 for r in records)
    table = (tmp_path / "results" / "fewshot.md").read_text(encoding="utf8")
    assert "| ner/tiny | span | 12.5 (1) |" in table
    assert "--data DIR" in table
    # What was measured on other texts or with another config is left out.
    fewshot("--sets", "ner/tiny", "--init", "base", "--limit-test", 1)
    table = (tmp_path / "results" / "fewshot.md").read_text(encoding="utf8")
    assert "| ner/tiny | span | 12.5" not in table
    config = tmp_path / "two_steps.cfg"
    config.write_text(config.read_text() + "# changed\n")
    before = len(records)
    records = fewshot("--sets", "ner/tiny", "--init", "base")
    assert len(records) == before + 2
    assert records[-1]["f1"] != 12.5
    chart = (tmp_path / "results" / "fewshot.svg").read_text(encoding="utf8")
    assert "zero_shot" in chart


def test_a_large_model_is_asked_the_same(
    fewshot: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    (tmp_path / "label.cfg").write_text(ORACLE_CONFIG)
    sets = ["ner/tiny", "re/tiny", "absa/tiny"]
    records = fewshot("--sets", *sets, "--seeds", 3, 4, "--init", f"llm={tmp_path / 'label.cfg'}")
    # Four of seven spans it knows, and all relations, which are second queries.
    assert {(r["set"], r["measure"], r["seed"]): r["f1"] for r in records} == {
        ("ner/tiny", "span", 3): 72.73,
        ("re/tiny", "relation", 3): 100,
        ("re/tiny", "relation, gold heads", 3): 100,
        ("absa/tiny", "span", 3): 100,
    }
    assert "| ner/tiny | span | 72.7 (1) |" in (tmp_path / "results/fewshot.md").read_text()


def test_what_is_not_there_is_named(
    fewshot: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no data set 'ner/none'"):
        fewshot("--sets", "ner/none", "--init", "base")
    with pytest.raises(ValueError, match=r"ner_\*' must be one folder, not 0"):
        fewshot("--sets", "ner/tiny", "--init", f"multi_task={tmp_path}/{{family}}_*")
