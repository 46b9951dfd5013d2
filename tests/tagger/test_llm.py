"""A large model in a tagger's place: whatever asks a pipeline asks it."""

from pathlib import Path
from typing import Any

import pytest
from annotated import ROW, SCHEMAS
from metaie.convert import make_doc
from metaie.extract import extract
from metaie.loading import get_metaie, load_llm, load_pipeline
from metaie.spans import get_answers
from metaie.tasks.evaluation import evaluate_schema
from metaie.tasks.families import parse_schema
from metaie.tasks.training import ask_schema
from oracle import NOTED, ORACLE_CONFIG
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "label.cfg"
    path.write_text(ORACLE_CONFIG)
    return path


@pytest.fixture
def nlp(config: Path) -> Language:
    return load_llm(config)


def shown(doc: Doc) -> dict[str, list[tuple[int, int]]]:
    return {
        label: [(span.start, span.end) for span in spans]
        for label, spans in get_answers(doc).items()
    }


def test_it_answers_what_docs_are_asked(nlp: Language) -> None:
    doc = Doc(nlp.vocab, words=ROW["tokens"])
    doc._.queries = ["person", "company", "date"]
    get_metaie(nlp).labels = ["positive aspect"]
    other = nlp.make_doc("The lab, LAB !")
    doc, other = nlp.pipe([doc, other])
    assert shown(doc) == {"person": [(0, 1), (5, 6)], "company": [(3, 4)], "date": []}
    assert shown(other) == {"positive aspect": [(1, 2)]}
    assert list(doc.spans["metaie"].attrs["scores"]) == pytest.approx([1.0] * 3)
    assert len(nlp.make_doc("")) == 0 and shown(nlp("")) == {"positive aspect": []}


@pytest.mark.parametrize("labels", ['["person", "date"]', '"person,date"'])
def test_the_labels_of_the_config_are_asked(config: Path, tmp_path: Path, labels: str) -> None:
    config.write_text(ORACLE_CONFIG.replace("max_labels = 2", f"max_labels = 2\nlabels = {labels}"))
    nlp = load_llm(config)
    assert shown(nlp("Ada left London.")) == {"person": [(0, 1)], "date": []}
    nlp.to_disk(tmp_path / "pipeline")
    assert load_pipeline(str(tmp_path / "pipeline")).get_pipe("metaie").labels == ("person", "date")


def test_texts_may_have_any_length(nlp: Language) -> None:
    assert len(nlp.make_doc("word " * 300_000)) == 300_000


def test_long_texts_are_asked_window_by_window(nlp: Language) -> None:
    get_metaie(nlp).labels = ["person"]
    words = ["word"] * 400
    words[10], words[150], words[399] = "Ada", "Bob", "Ada"
    doc = nlp(Doc(nlp.vocab, words=words))
    assert shown(doc) == {"person": [(10, 11), (150, 151), (399, 400)]}


@pytest.mark.parametrize("family", ["entities", "relations", "aspects"])
def test_schemas_are_evaluated_first_and_second_queries(nlp: Language, family: str) -> None:
    schema = parse_schema(SCHEMAS[family])
    reference = make_doc(ROW, nlp, structures=True)
    ask_schema(schema, reference)
    assert evaluate_schema(nlp, [reference], schema)[f"{family}_f"] == 1.0


def test_a_pipeline_on_disk_extracts(nlp: Language, tmp_path: Path, capsys: Any) -> None:
    nlp.to_disk(tmp_path / "pipeline")
    (tmp_path / "a.txt").write_text("Ada left IBM.\n")
    extract(str(tmp_path / "pipeline"), [tmp_path / "a.txt"], labels=["company"])
    assert '"start":9,"end":12' in capsys.readouterr().out


def test_answers_that_are_not_whole_are_told(config: Path) -> None:
    config.write_text(config.read_text().replace("test.Oracle.v1", "test.Broken.v1"))
    nlp = load_llm(config)
    get_metaie(nlp).labels = ["person"]
    with pytest.warns(UserWarning, match=r"no whole answer \(cut_off, failed\)"):
        docs = list(nlp.pipe(["Ada.", "FAIL", "Ada and Bob."]))
    assert [shown(doc)["person"] for doc in docs] == [[(0, 1)], [], [(0, 1)]]


def test_a_windows_labels_stay_together(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is in the batch: a journal knows answers by their prompts."""
    config.write_text(config.read_text().replace("test.Oracle.v1", "test.Noted.v1"))
    nlp = load_llm(config)
    get_metaie(nlp).labels = ["person", "company"]
    texts = [f"Ada met person {i} at IBM." for i in range(10)]
    monkeypatch.setattr("metaie.pipe.BUFFER_TOKENS", 10)
    NOTED.clear()
    docs = list(nlp.pipe(texts))
    assert all(shown(doc) == {"person": [(0, 1)], "company": [(5, 6)]} for doc in docs)
    # Text is counted once, not for each label, so that many prompts are in flight.
    assert [len(prompts) for prompts in NOTED] == [2] * 5
    prompts = [prompt for prompts in NOTED for prompt in prompts]
    assert len(set(prompts)) == 10
    assert all("- person\n- company\n" in prompt for prompt in prompts)


def test_it_is_not_trained(nlp: Language) -> None:
    doc = nlp.make_doc("Ada left.")
    doc._.queries = ["person"]
    with pytest.raises(ValueError, match="can't be trained"):
        get_metaie(nlp).update([Example(nlp.make_doc("Ada left."), doc)])


def test_configs_without_the_task_are_refused(config: Path, tmp_path: Path) -> None:
    config.write_text(
        ORACLE_CONFIG.replace("metaie.QueriedLabels.v1", "metaie.ImportantInformation.v1")
    )
    with pytest.raises(ValueError, match=r"label\.cfg' has no component .*metaie.QueriedLabels.v1"):
        load_llm(config)
    with pytest.raises(FileNotFoundError, match=r"none\.cfg"):
        load_llm(tmp_path / "none.cfg")
    for part in ('[components.asker.model]\n@llm_models = "test.Oracle.v1"', 'lang = "en"'):
        config.write_text(ORACLE_CONFIG.replace(part, ""))
        with pytest.raises(ValueError, match=r"label\.cfg' needs .*asker\.model\], and `lang`"):
            load_llm(config)
