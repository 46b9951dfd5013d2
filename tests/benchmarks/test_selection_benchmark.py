"""The benchmark of active learning, on a tiny transformer and a few sentences."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import srsly
from annotated import ROW

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "ner" / "tiny"
    (folder / "fewshot").mkdir(parents=True)
    pool = [{**ROW, "tokens": [f"{word}{i}" for word in ROW["tokens"]]} for i in range(8)]
    srsly.write_jsonl(folder / "train.jsonl", [ROW, *pool])
    srsly.write_jsonl(folder / "test.jsonl", [ROW] * 2)
    srsly.write_jsonl(folder / "fewshot" / "5-per-label.seed3.jsonl", [ROW])
    return tmp_path / "data"


def test_strategies_are_compared_on_the_same_number_of_sentences(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_base: Path,
    tiny_model_dir: Path,
    data: Path,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import selection

    config = (ROOT / "configs/fewshot.cfg").read_text(encoding="utf8")
    (tmp_path / "two_steps.cfg").write_text(config.replace("max_steps = 200", "max_steps = 2"))
    output = tmp_path / "results" / "selection.json"

    def run(*args: object) -> list[dict[str, Any]]:
        fixed = ["--data", data, "--sets", "ner/tiny", "--seeds", 3, "--output", output]
        fixed += ["--base-model", tiny_base, "--config", tmp_path / "two_steps.cfg"]
        fixed += ["--init", tiny_model_dir, "--budget", 2, *args]
        monkeypatch.setattr(sys, "argv", ["selection.py", *map(str, fixed)])
        selection.main()
        return list(json.loads(output.read_text()))

    records = run("--strategies", "random", "uncertain:margin")
    assert [(r["strategy"], r["sentences"]) for r in records] == [
        ("start", 1),
        ("random", 3),
        ("uncertain:margin", 3),
    ]
    assert all(0 <= r["f1"] <= 100 and r["n_test"] == 2 for r in records)
    # Each sentence has three spans of the schema's labels, or more.
    assert records[1]["spans"] >= 6 and records[1]["tokens"] == 22
    table = output.with_suffix(".md").read_text()
    assert "| ner/tiny | start | 1 | 0 | 0 |" in table
    gain = records[2]["f1"] - records[1]["f1"]
    assert f"| {gain:+.1f} | {gain:+.1f} |" in table
    assert "uncertain:margin" in output.with_suffix(".svg").read_text()
    records[0]["f1"] = 12.5  # what a run would not give
    srsly.write_json(output, records)
    assert len(run("--strategies", "random")) == 3
    assert "| 12.5 (1) |" not in output.with_suffix(".md").read_text()
    assert "| 12.5 ± 0.0 (1) |" in output.with_suffix(".md").read_text()
