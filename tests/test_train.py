from pathlib import Path

import pytest
import spacy
import srsly
from conftest import SENTENCES, make_examples
from metaie.train import read_overrides, train
from spacy.tokens import DocBin

CONFIGS = Path(__file__).parents[1] / "configs"


def test_trains_with_the_overrides_of_a_file(tmp_path: Path, tiny_base: Path) -> None:
    examples = make_examples(spacy.blank("en"))
    DocBin(docs=[eg.reference for eg in examples]).to_disk(tmp_path / "docs.spacy")
    overrides = {
        "paths.train": str(tmp_path / "docs.spacy"),
        "paths.dev": str(tmp_path / "docs.spacy"),
        "paths.base_model": str(tiny_base),
        "training.max_steps": 4,
        "training.eval_frequency": 2,
        "training.optimizer.learn_rate.warmup_steps": 1,
        "training.logger.progress_bar": None,
    }
    srsly.write_json(tmp_path / "tiny.json", overrides)
    output = tmp_path / "training"
    train(CONFIGS / "distill.cfg", output, overrides=tmp_path / "tiny.json")
    nlp = spacy.load(output / "model-best")
    assert nlp.config["training"]["max_steps"] == 4
    assert "spans_metaie_f" in nlp.meta["performance"]
    assert nlp(SENTENCES[0])._.queries == ["Person", "Organization", "Location", "Date"]

    # Few-shot goes on from there, with the labels of the data.
    closed = [eg.reference for eg in examples[:1]]
    DocBin(docs=closed).to_disk(tmp_path / "docs.spacy")
    srsly.write_json(
        tmp_path / "tiny.json", {**overrides, "paths.init_model": str(output / "model-best")}
    )
    train(CONFIGS / "fewshot.cfg", tmp_path / "fewshot", overrides=tmp_path / "tiny.json")
    assert spacy.load(tmp_path / "fewshot/model-best").get_pipe("metaie").labels == (
        "Person",
        "City",
        "Drug",
    )


@pytest.mark.parametrize("file", ["size/full.json", "size/quick.json", "fast.json"])
def test_overrides_set_what_the_config_has(file: str) -> None:
    config = spacy.util.load_config(CONFIGS / "distill.cfg")
    for name in read_overrides(CONFIGS / file):
        section = config
        *path, last = name.split(".")
        for part in path:
            section = section[part]
        assert last in section, name


def test_bad_overrides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file of overrides"):
        read_overrides(tmp_path / "none.json")
    srsly.write_json(tmp_path / "x.json", {"max_steps": 3})
    with pytest.raises(ValueError, match="dotted"):
        read_overrides(tmp_path / "x.json")
    with pytest.raises(ValueError, match="no config"):
        train(tmp_path / "none.cfg", tmp_path)
