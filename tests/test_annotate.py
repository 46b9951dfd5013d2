import json
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from metaie.annotate import (
    Passage,
    annotate,
    find_texts,
    load_teacher,
    parse_split,
    read_passages,
    split_passages,
)
from metaie.cli import app
from metaie.docbin import read_docbin
from metaie.spans import get_answers
from metaie.teacher.record import hash_prompt
from metaie.teacher.task import make_important_information_task
from spacy.tokens import Doc
from typer.testing import CliRunner

CONFIG = Path(__file__).parent.parent / "configs" / "teacher.cfg"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with texts/ (30 of two genres) and the journal of their answers."""
    texts = [(f"Ada met person {i} in London.", "ab"[i % 2]) for i in range(30)]
    (tmp_path / "texts").mkdir()
    lines = [json.dumps({"text": t, "genre": g, "id": f"p-{i}"}) for i, (t, g) in enumerate(texts)]
    (tmp_path / "texts" / "p.jsonl").write_text("\n".join([*lines, "", lines[0], '{"text": " "}']))
    task = make_important_information_task()
    answer = "- Person: Ada\n- City: London\n- City: Paris\n- Date: none"
    records = [{"prompt_sha256": hash_prompt(task.render(t)), "response": answer} for t, _ in texts]
    (tmp_path / "journal.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    return tmp_path


def overrides(corpus: Path) -> dict[str, str]:
    return {"paths.journal": str(corpus / "journal.jsonl")}


def read(path: Path) -> list[Doc]:
    return list(read_docbin(path, spacy.blank("en").vocab))


def test_texts_become_three_docbins(corpus: Path) -> None:
    summary = corpus / "out" / "counts.json"
    report = annotate(
        [corpus / "texts"],
        corpus / "out",
        CONFIG,
        split="80/10/10",
        overrides=overrides(corpus),
        summary=summary,
    )
    docs = {name: read(corpus / "out" / f"{name}.spacy") for name in ("train", "dev", "test")}
    assert {name: len(found) for name, found in docs.items()} == {"train": 24, "dev": 3, "test": 3}
    assert (report.duplicates, report.empty) == (1, 1)
    doc = docs["test"][0]
    assert {label: len(spans) for label, spans in get_answers(doc).items()} == {
        "Person": 1,
        "City": 1,
        "Date": 0,
    }
    assert doc.user_data["genre"] in "ab" and doc.user_data["id"].startswith("p-")
    train = json.loads(summary.read_text())["splits"]["train"]
    assert train["unplaced"] == {"not_in_text": 24}
    assert (train["passages"], train["queries"], train["spans"], train["lines"]) == (24, 72, 48, 96)
    assert train["absences"] == 24
    table = {row[0].strip(): row[1:] for row in report.rows()}
    assert table["lines not placed"] == ("24", "3", "3", "30")
    assert table["not in text"] == ("24", "3", "3", "30")
    assert table["share of lines"] == ("25.00%",) * 4


def test_two_runs_are_equal_byte_for_byte(corpus: Path) -> None:
    # The order of the inputs' lines does not matter either.
    lines = (corpus / "texts" / "p.jsonl").read_text().split("\n")
    (corpus / "other").mkdir()
    (corpus / "other" / "p.jsonl").write_text("\n".join(reversed(lines)))
    for folder, out in (("texts", "one"), ("other", "two")):
        annotate([corpus / folder], corpus / out, CONFIG, overrides=overrides(corpus))
    for name in ("train", "dev", "test"):
        one, two = (corpus / out / f"{name}.spacy" for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_a_run_that_fails_leaves_what_was_there(corpus: Path) -> None:
    (corpus / "out").mkdir()
    (corpus / "out" / "train.spacy").write_bytes(b"old")
    with (corpus / "texts" / "p.jsonl").open("a") as file:
        file.write('\n{"text": "not in the journal"}\n')
    with pytest.raises(ValueError, match="No answer is recorded"):
        annotate([corpus / "texts"], corpus / "out", CONFIG, overrides=overrides(corpus))
    assert [p.name for p in (corpus / "out").iterdir()] == ["train.spacy"]
    assert (corpus / "out" / "train.spacy").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{nope", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"txt": "a"}', "'text' is missing"),
        (b'{"text": 3}', "text is not a string"),
        (b'{"text": "a", "genre": 3}', "genre is not a string"),
        (b'{"text": "a", "id": 3}', "id is not a string"),
        (b'{"text": "\\ud800"}', "lone surrogate"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(ValueError, match=problem) as caught:
        list(read_passages([file]))
    assert f"{file}, line 2" in str(caught.value)


def test_text_files_have_a_text_a_line(tmp_path: Path) -> None:
    (tmp_path / "news.txt").write_bytes(b"\xef\xbb\xbfOne.\r\n\nTwo.")
    passages = list(read_passages([tmp_path]))
    assert passages == [Passage("One.", "news", "news-1"), Passage("Two.", "news", "news-3")]


def test_no_texts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        find_texts(tmp_path / "missing")
    with pytest.raises(ValueError, match="no files that end"):
        find_texts(tmp_path)
    (tmp_path / "a.csv").touch()
    with pytest.raises(ValueError, match=r"a\.csv"):
        find_texts(tmp_path / "a.csv")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="no texts"):
        annotate([tmp_path / "a.txt"], tmp_path / "out", CONFIG)


@pytest.mark.parametrize(
    "split", ["", "88/12", "0/50/50", "a/b/c", "88/-6/6", "1/1/1/1", "8.5/1/1"]
)
def test_bad_splits(split: str) -> None:
    with pytest.raises(ValueError, match="split"):
        parse_split(split)


def test_configs_are_checked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no config"):
        load_teacher(tmp_path / "missing.cfg", {})
    (tmp_path / "a.cfg").write_text('[nlp]\nlang = "en"\npipeline = []\n')
    with pytest.raises(ValueError, match="no `llm` component"):
        load_teacher(tmp_path / "a.cfg", {})


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.sampled_from([(88, 6, 6), (8, 1, 1), (1, 1, 1), (1, 0, 0), (3, 0, 1)]),
    st.randoms(),
)
def test_every_genre_is_split_as_the_whole_is(
    sizes: list[int], shares: tuple[int, int, int], random: object
) -> None:
    passages = [
        Passage(f"{g} {i}", f"genre {g}", "") for g, n in enumerate(sizes) for i in range(n)
    ]
    names = split_passages(passages, shares)
    for genre, size in enumerate(sizes):
        count = Counter(
            name
            for passage, name in zip(passages, names, strict=True)
            if passage.genre == f"genre {genre}"
        )
        for name, share in zip(("train", "dev", "test"), shares, strict=True):
            assert abs(count[name] - size * share / sum(shares)) <= 2
    by_text = dict(zip(passages, names, strict=True))
    random.shuffle(passages)  # type: ignore[attr-defined]
    assert split_passages(passages, shares) == [by_text[passage] for passage in passages]


def test_the_command(corpus: Path) -> None:
    arguments = ["annotate", str(corpus / "texts"), str(corpus / "out"), "--config", str(CONFIG)]
    journal = ["--paths.journal", str(corpus / "journal.jsonl")]
    result = CliRunner().invoke(app, [*arguments, *journal])
    assert result.exit_code == 0, result.output
    assert "not in text" in result.output and "1 texts that were there before" in result.output
    assert len(read(corpus / "out")) == 30
    result = CliRunner().invoke(app, [*arguments, "--paths.journal", str(corpus / "missing.jsonl")])
    assert result.exit_code == 1
    assert "missing.jsonl" in result.output.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("llm_tasks", "metaie.ImportantInformation.v1"),
        ("llm_models", "metaie.Chat.v1"),
        ("llm_models", "metaie.Journal.v1"),
    ],
)
def test_spacy_llm_finds_the_teacher_without_an_import(group: str, name: str) -> None:
    from spacy_llm.registry import registry

    # The name of the group is spacy-llm's affair, and not what one would think.
    points = entry_points(group=getattr(registry, group).entry_point_namespace)
    assert name in {point.name for point in points}
