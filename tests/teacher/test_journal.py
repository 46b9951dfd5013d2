import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Iterable  # noqa: UP035

import pytest
import spacy
from metaie.spans import get_answers
from metaie.teacher.journal import Journal, hash_prompt
from metaie.teacher.task import make_important_information_task
from spacy_llm.registry import registry
from spacy_llm.util import assemble_from_config


class Upper:
    """A model that answers in capitals and remembers what it was asked."""

    name = "upper"

    def __init__(self, fail_at: str | None = None) -> None:
        self.asked: list[str] = []
        self.fail_at = fail_at

    def __call__(self, prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        for group in prompts:
            for prompt in group:
                if prompt == self.fail_at:
                    raise RuntimeError("the line is dead")
                self.asked.append(prompt)
            yield [prompt.upper() for prompt in group]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.jsonl"


def ask(journal: Journal, *prompts: str) -> list[str]:
    return [response for (response,) in journal([prompt] for prompt in prompts)]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_answers_are_recorded_and_replayed(path: Path) -> None:
    model = Upper()
    assert ask(Journal(path, model), "a", "b", "a") == ["A", "B", "A"]
    assert model.asked == ["a", "b"]
    assert [row["response"] for row in rows(path)] == ["A", "B"]
    assert rows(path)[0]["prompt_sha256"] == hash_prompt("a")
    assert rows(path)[0]["teacher"] == "upper" and rows(path)[0]["time"].endswith("+00:00")
    assert ask(Journal(path), "b", "a") == ["B", "A"]


def test_only_what_is_missing_is_asked_in_order(path: Path) -> None:
    ask(Journal(path, Upper()), "b")
    model = Upper()
    assert ask(Journal(path, model, batch_size=2), "a", "b", "c", "d", "b") == list("ABCDB")
    assert model.asked == ["a", "c", "d"]


def test_docs_with_several_prompts_or_none(path: Path) -> None:
    journal = Journal(path, Upper())
    assert list(journal([["a", "b"], [], ["c"]])) == [["A", "B"], [], ["C"]]


def test_an_answer_is_recorded_before_it_is_used(path: Path) -> None:
    for count, response in enumerate(Journal(path, Upper(), batch_size=1)([["a"], ["b"]]), 1):
        assert [row["response"] for row in rows(path)][count - 1] == next(iter(response))


def test_answers_before_a_failure_are_kept(path: Path) -> None:
    with pytest.raises(RuntimeError, match="line is dead"):
        ask(Journal(path, Upper(fail_at="c")), "a", "b", "c")
    model = Upper()
    assert ask(Journal(path, model), "a", "b", "c") == ["A", "B", "C"]
    assert model.asked == ["c"]


def test_prompts_are_taken_lazily(path: Path) -> None:
    taken = []

    def prompts() -> Iterator[list[str]]:
        for i in range(100):
            taken.append(i)
            yield [str(i)]

    responses = iter(Journal(path, Upper(), batch_size=4)(prompts()))
    assert next(responses) == ["0"]
    assert len(taken) == 4


def test_a_missing_prompt_without_a_model(path: Path) -> None:
    ask(Journal(path, Upper()), "a")
    with pytest.raises(ValueError, match="No answer is recorded") as caught:
        ask(Journal(path), "a", "unknown")
    for part in (hash_prompt("unknown"), str(path), "1 answers", "[components.llm.model.model]"):
        assert part in str(caught.value)


def test_neither_journal_nor_model(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"paths\.journal"):
        Journal(path)


def test_a_cut_off_record_is_left_out_then_replaced(path: Path) -> None:
    ask(Journal(path, Upper()), "a", "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.warns(UserWarning, match="line 2.*cut off"):
        journal = Journal(path, Upper())
    assert ask(journal, "a") == ["A"]
    assert path.read_bytes() == whole[:-20]  # reading changes nothing
    assert ask(journal, "b", "c") == ["B", "C"]
    assert [row["response"] for row in rows(path)] == ["A", "B", "C"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask(Journal(path), "a", "b", "c") == ["A", "B", "C"]


@pytest.mark.parametrize(
    "line",
    [b"{broken", b"[]", b"3", b"{}", b'{"prompt_sha256": "x"}', b'{"response": 3}', b"\xff\xfe"],
)
def test_a_bad_record_in_the_middle_is_named(path: Path, line: bytes) -> None:
    ask(Journal(path, Upper()), "a", "b")
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, line, second, b""]))
    with pytest.raises(ValueError, match="line 2 is not a record") as caught:
        Journal(path)
    assert str(path) in str(caught.value)


def test_the_first_record_of_a_prompt_counts(path: Path) -> None:
    path.parent.mkdir()
    records = [{"prompt_sha256": hash_prompt("a"), "response": answer} for answer in ("1", "2")]
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    assert ask(Journal(path), "a") == ["1"]


def test_answers_with_any_characters(path: Path) -> None:
    class Odd(Upper):
        def __call__(self, prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
            return [["line\u2028sep \r\n💖 \x00 \ud800"] for _ in prompts]

    (first,) = ask(Journal(path, Odd()), "a\ud800")
    assert first == "line\u2028sep \r\n💖 \x00 ?"
    assert ask(Journal(path), "a\ud800") == [first]


@pytest.mark.parametrize(
    ("answers", "message"), [([["A"]], "1 answers to 2"), ([[None]], "NoneType")]
)
def test_a_model_that_breaks_the_rules_is_an_error(
    path: Path, answers: list[list[Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ask(Journal(path, lambda prompts: answers), "a", "b")


def test_batch_size_is_checked(path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        Journal(path, Upper(), batch_size=0)


@registry.llm_models("test.Tiny.v1")
def make_tiny(answer: str) -> Any:
    def model(prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        return [[answer for _ in group] for group in prompts]

    return model


def config(path: Path, model: dict[str, str] | None) -> spacy.util.Config:
    return spacy.util.Config(
        {
            "nlp": {"lang": "en", "pipeline": ["llm"]},
            "components": {
                "llm": {
                    "factory": "llm",
                    "task": {"@llm_tasks": "metaie.ImportantInformation.v1"},
                    "model": {
                        "@llm_models": "metaie.Journal.v1",
                        "path": str(path),
                        "model": model,
                    },
                }
            },
        }
    )


def test_a_model_is_configured_behind_the_journal(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # spacy-llm warns of types that don't match
        nlp = assemble_from_config(
            config(path, {"@llm_models": "test.Tiny.v1", "answer": "- City: London"})
        )
    nlp("London")
    replay = assemble_from_config(config(path, None))
    assert [span.text for span in get_answers(replay("London"))["City"]] == ["London"]
    assert rows(path)[0]["prompt_sha256"] == hash_prompt(
        make_important_information_task().render("London")
    )
    with pytest.raises(ValueError, match="No answer is recorded"):
        replay("Paris")
