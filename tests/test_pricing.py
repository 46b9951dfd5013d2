from pathlib import Path

import pytest
from filelock import FileLock
from local_model import ANSWER, read_asked, write_config
from metaie.cli import app
from metaie.inputs import Inputs
from metaie.pricing import estimate
from metaie.teacher.index import JournalIndex
from metaie.teacher.pipeline import Teacher
from metaie.teacher.writer import JournalLocked
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"Ada met person {i:02} in London.\n" for i in range(20)))
    return path


def read_table(output: str) -> tuple[dict[str, str], tuple[int, int]]:
    """The rows of the command's table, and the tokens of prompts and of answers."""
    rows = {line[:26].strip(): line[26:].strip() for line in output.splitlines()}
    prompts, answers = (rows[f"tokens of {what}, about"] for what in ("prompts", "answers"))
    return rows, (int(prompts.replace(",", "")), int(answers.replace(",", "")))


def test_nothing_is_asked(tmp_path: Path, texts: Path) -> None:
    teacher = Teacher(write_config(tmp_path))
    priced = estimate(teacher, Inputs([texts]), prices=(10.0, 40.0))
    assert (priced.passages, priced.prompts, priced.recorded) == (20, 20, 0)
    ((prompt,),) = teacher.make_prompts(["Ada met person 00 in London."])
    assert priced.prompt_tokens == round(20 * len(prompt) / 4)
    # Answers are taken to be 1.4 times as long as the texts, of 28 characters.
    assert priced.completion_tokens == round(20 * 28 * 1.4 / 4)
    cost = (priced.prompt_tokens * 10 + priced.completion_tokens * 40) / 1e6
    assert priced.cost == pytest.approx(cost)
    assert not read_asked(tmp_path)
    assert not (tmp_path / "answers.jsonl").exists()


def test_what_is_recorded_costs_nothing(tmp_path: Path, texts: Path) -> None:
    teacher = Teacher(write_config(tmp_path))
    list(teacher.annotate([f"Ada met person {i:02} in London." for i in range(15)]))
    priced = estimate(teacher, Inputs([texts]))
    assert (priced.prompts, priced.recorded) == (20, 15)
    assert priced.completion_tokens == 5 * round(len(ANSWER) / 4)
    assert "the mean of 15 recorded" in priced.basis
    assert priced.cost is None
    assert estimate(teacher, Inputs([texts]), completion_tokens=100).completion_tokens == 500
    assert len(read_asked(tmp_path)) == 15


def test_a_journal_that_another_process_writes_is_priced(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, journal = write_config(tmp_path), tmp_path / "answers.jsonl"
    teacher = Teacher(config)
    list(teacher.annotate([f"Ada met person {i:02} in London." for i in range(15)]))
    assert teacher.journal
    teacher.journal.close()
    opened = []

    class CountedIndex(JournalIndex):
        def __init__(self, path: Path) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr("metaie.teacher.journal.JournalIndex", CountedIndex)
    before = journal.read_bytes()
    # As that process would hold it.
    with FileLock(f"{journal.resolve()}.lock"):
        teacher = Teacher(config)
        priced = estimate(teacher, Inputs([texts]))
        # The five that are missing are no error, and nobody is asked.
        assert (priced.prompts, priced.recorded) == (20, 15)
        assert opened == [journal]
        assert len(read_asked(tmp_path)) == 15
        with pytest.raises(JournalLocked):
            list(teacher.annotate(["Ada met person 16 in London."]))
    assert journal.read_bytes() == before


def test_a_journal_without_a_model_is_priced(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("Ada met Bob.\n")
    journal = ROOT / "corpus" / "teacher" / "journal.jsonl"
    teacher = Teacher(ROOT / "configs" / "teacher.cfg", {"paths.journal": str(journal)})
    priced = estimate(teacher, Inputs([tmp_path / "new.txt"]))
    assert (priced.prompts, priced.recorded) == (1, 0)


def test_the_command_prices_the_shipped_corpus(tmp_path: Path) -> None:
    texts = ROOT / "corpus" / "texts" / "news.jsonl"
    (tmp_path / "new.txt").write_text("Ada met Bob.\nAda met Bob.\n")
    arguments = ["annotate", texts, tmp_path / "new.txt", "-o", tmp_path / "out", "--dry-run"]
    arguments += [
        "-c",
        ROOT / "configs" / "teacher.cfg",
        "--price-in",
        "150",
        "--price-out",
        "600",
    ]
    journal = f"--paths.journal={ROOT / 'corpus' / 'teacher' / 'journal.jsonl'}"
    result = CliRunner().invoke(app, [*map(str, arguments), journal])
    assert result.exit_code == 0, result.output
    rows, spent = read_table(result.output)
    assert rows["recorded in the journal"] == "291"
    assert rows["to ask"] == "1"
    assert min(spent) > 50
    assert rows["cost, about"] == f"{(spent[0] * 150 + spent[1] * 600) / 1e6:.4f}"
    assert "1 texts that were there before" in result.output
    assert "Nothing was asked" in result.output
    assert not (tmp_path / "out").exists()


def test_prices_of_the_config_are_used(tmp_path: Path, texts: Path) -> None:
    config = write_config(tmp_path)
    prices = "[components.llm.model.model.prices]\nprompt = 1000\ncompletion = 0\n"
    config.write_text(config.read_text() + prices)
    priced = estimate(Teacher(config), Inputs([texts]))
    assert priced.cost == pytest.approx(priced.prompt_tokens / 1000)


@pytest.mark.parametrize(
    ("options", "price_in", "price_out"),
    [
        ((), 1000, 5000),
        (("--price-in", "70"), 70, 5000),
        (("--price-out", "30"), 1000, 30),
        (("--price-in", "0", "--price-out", "30"), 0, 30),
    ],
)
def test_a_price_that_is_given_replaces_that_of_the_config(
    tmp_path: Path, texts: Path, options: tuple[str, ...], price_in: int, price_out: int
) -> None:
    config = write_config(tmp_path)
    prices = "[components.llm.model.model.prices]\nprompt = 1000\ncompletion = 5000\n"
    config.write_text(config.read_text() + prices)
    arguments = ["annotate", texts, "-c", config, "-o", tmp_path / "out", "--dry-run", *options]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    rows, spent = read_table(result.output)
    cost = (spent[0] * price_in + spent[1] * price_out) / 1e6
    assert rows["cost, about"] == f"{cost:,.4f}"
