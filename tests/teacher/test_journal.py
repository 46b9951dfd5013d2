import copy
import json
import tempfile
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Iterable  # noqa: UP035

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.spans import get_answers
from metaie.teacher.answer import Answer
from metaie.teacher.journal import Journal
from metaie.teacher.record import hash_prompt
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


def count_taken(taken: list[int], n_prompts: int = 100) -> Iterator[list[str]]:
    for i in range(n_prompts):
        taken.append(i)
        yield [str(i)]


def test_prompts_are_taken_lazily(path: Path) -> None:
    taken: list[int] = []
    responses = iter(Journal(path, Upper(), batch_size=4)(count_taken(taken)))
    assert next(responses) == ["0"]
    assert len(taken) == 1
    assert len(rows(path)) == 1


class AllAtOnce:
    """A model that returns its answers all at once, as those of spacy-llm do."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        answers = [[prompt.upper() for prompt in group] for group in prompts]
        self.sizes.append(len(answers))
        return answers


def test_a_model_that_returns_all_at_once_is_given_a_batch_at_a_time(path: Path) -> None:
    ask(Journal(path, AllAtOnce()), "2", "5")
    taken: list[int] = []
    model = AllAtOnce()
    responses = iter(Journal(path, model, batch_size=4)(count_taken(taken, 10)))
    assert next(responses) == ["0"]
    assert (len(taken), model.sizes) == (4, [3])  # 2 is recorded
    assert [*responses] == [[str(i)] for i in range(1, 10)]
    assert model.sizes == [3, 3, 2]


class Ahead:
    """A lazy model that keeps `concurrency` prompts in flight, and hands over in order."""

    def __init__(self, concurrency: int, fail_after: int | None = None) -> None:
        self.concurrency = concurrency
        self.fail_after = fail_after
        self.in_flight: list[int] = []
        self.calls = 0
        self.closed = 0

    def __call__(self, prompts: Iterable[Iterable[str]]) -> Iterator[list[str]]:
        self.calls += 1
        docs, window = iter(prompts), deque[str]()
        try:
            while True:
                while len(window) < self.concurrency and (doc := next(docs, None)):
                    window.extend(doc)
                if not window:
                    return
                self.in_flight.append(len(window))
                if len(self.in_flight) == self.fail_after:
                    raise RuntimeError("the line is dead")
                yield [window.popleft().upper()]
        finally:
            self.closed += 1


def test_a_lazy_model_is_never_out_of_work(path: Path) -> None:
    model = Ahead(concurrency=8)
    prompts = [f"p{i}" for i in range(100)]
    journal = Journal(path, model, batch_size=8)
    assert ask(journal, *prompts) == [prompt.upper() for prompt in prompts]
    assert model.in_flight == [8] * 93 + [7, 6, 5, 4, 3, 2, 1]
    assert (model.calls, model.closed) == (1, 1)


def test_a_lazy_model_works_on_past_what_is_recorded(path: Path) -> None:
    prompts = [f"p{i}" for i in range(100)]
    ask(Journal(path, Upper()), *(p for i, p in enumerate(prompts) if i % 4))
    model = Ahead(concurrency=4)
    taken: list[int] = []
    responses = Journal(path, model, batch_size=20)(
        [prompts[int(number)]] for (number,) in count_taken(taken)
    )
    for n_yielded, answer in enumerate(responses):
        assert answer == [prompts[n_yielded].upper()]
        assert len(taken) - n_yielded <= 20
    assert model.in_flight == [4] * 22 + [3, 2, 1]


def test_how_far_ahead_is_the_models_affair_unless_it_is_set(path: Path) -> None:
    assert Journal(path, Upper()).batch_size == 64
    assert Journal(path, Ahead(2)).batch_size == 64
    assert Journal(path, Ahead(100)).batch_size == 1600
    assert Journal(path, Ahead(100), batch_size=3).batch_size == 3


def test_a_batch_smaller_than_what_a_model_takes_ahead(path: Path) -> None:
    model = Ahead(concurrency=8)
    prompts = [f"p{i}" for i in range(30)]
    assert ask(Journal(path, model, batch_size=5), *prompts) == [p.upper() for p in prompts]
    assert max(model.in_flight) == 5


def test_a_lazy_models_answers_before_a_failure_are_kept(path: Path) -> None:
    prompts = [f"p{i}" for i in range(30)]
    with pytest.raises(RuntimeError, match="line is dead"):
        ask(Journal(path, Ahead(4, fail_after=11)), *prompts)
    assert [row["response"] for row in rows(path)] == [p.upper() for p in prompts[:10]]
    assert ask(Journal(path, Ahead(4)), *prompts) == [p.upper() for p in prompts]
    assert len(rows(path)) == 30


def test_who_stops_early_stops_the_model(path: Path) -> None:
    model = Ahead(4)
    responses = iter(Journal(path, model)(count_taken([])))
    next(responses)
    responses.close()  # type: ignore[attr-defined]
    assert model.closed == 1
    assert len(rows(path)) == 1


def test_equal_prompts_in_flight_are_asked_once(path: Path) -> None:
    model = Ahead(8)
    prompts = [*"abacabad"] * 3
    assert ask(Journal(path, model), *prompts) == [p.upper() for p in prompts]
    assert len(rows(path)) == len(model.in_flight) == 4


def test_an_answers_outcome_is_recorded_and_replayed(path: Path) -> None:
    given = {
        "ok": Answer("A", "ok", 7, 3),
        "refused": Answer("", "refused", 9, 0, "I \ud800 can't"),
        "cut": Answer("- City: Lon", "cut_off", 8, 100),
        "plain": "B",
    }
    expected = [
        ("A", "ok", 7, 3, None),
        ("", "refused", 9, 0, "I ? can't"),
        ("- City: Lon", "cut_off", 8, 100, None),
        ("B", "ok", None, None, None),
    ]
    for model in (lambda prompts: ([given[prompt]] for (prompt,) in prompts), None):
        answers = ask(Journal(path, model), *given)
        assert expected == [
            (answer, answer.outcome, answer.prompt_tokens, answer.completion_tokens, answer.error)
            for answer in answers
            if isinstance(answer, Answer)
        ]
    assert [row.get("outcome") for row in rows(path)] == [None, "refused", "cut_off", None]
    assert [row.get("prompt_tokens") for row in rows(path)] == [7, 9, 8, None]


def test_an_answer_that_failed_is_asked_again(path: Path) -> None:
    def fail(prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        for (prompt,) in prompts:
            yield [Answer("", "failed", error="no line") if prompt == "b" else prompt.upper()]

    journal = Journal(path, fail)
    answers = ask(journal, "a", "b", "b", "c")
    assert answers == ["A", "", "", "C"]
    assert [getattr(answer, "outcome", None) for answer in answers] == [
        "ok",
        "failed",
        "failed",
        "ok",
    ]
    assert [row["response"] for row in rows(path)] == ["A", "C"]
    model = Upper()
    assert ask(Journal(path, model), "a", "b", "c") == ["A", "B", "C"]
    assert model.asked == ["b"]


def test_what_another_process_records_is_replayed(path: Path) -> None:
    ask(Journal(path, Upper()), "a")
    reader = Journal(path)
    with pytest.raises(ValueError, match="No answer is recorded"):
        ask(reader, "b")
    ask(Journal(path, Upper()), "b")  # appends behind the reader's back
    assert ask(reader, "b", "a") == ["B", "A"]
    late = Upper()
    early = Journal(path, late)
    ask(Journal(path, Upper()), "c")
    assert ask(early, "c") == ["C"]
    assert late.asked == []


def test_a_journal_is_copied_as_its_settings(path: Path) -> None:
    ask(Journal(path, Upper()), "a")
    copied = copy.deepcopy(Journal(path, Upper(), teacher="me", batch_size=7))
    assert (copied.path, copied.teacher, copied.batch_size) == (path, "me", 7)
    assert ask(copied, "a", "b") == ["A", "B"]


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_record_cut_off_anywhere_costs_itself_alone(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "journal.jsonl"
        prompts = data.draw(
            st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, unique=True)
        )
        with Journal(path, Upper()) as journal:
            ask(journal, *prompts)
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        model = Upper()
        with Journal(path, model) as journal:
            assert path.read_bytes() == whole[:cut]
            assert ask(journal, *prompts) == [prompt.upper() for prompt in prompts]
        # One that lacks nothing but its newline is whole.
        n_whole = whole[:cut].count(b"\n") + (whole[cut : cut + 1] == b"\n")
        assert model.asked == prompts[n_whole:]
        assert [row["prompt_sha256"] for row in rows(path)] == list(map(hash_prompt, prompts))
        assert path.read_bytes().startswith(whole[: whole[:cut].rfind(b"\n") + 1])


def test_a_missing_prompt_without_a_model(path: Path) -> None:
    ask(Journal(path, Upper()), "a")
    with pytest.raises(ValueError, match="No answer is recorded") as caught:
        ask(Journal(path), "a", "unknown")
    for part in (hash_prompt("unknown"), str(path), "1 records", "[components.llm.model.model]"):
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
    ("answers", "message"),
    [
        ([["A"]], "1 answers to 2"),
        ([], "0 answers to 2"),
        ([["A"], ["B"], ["C"]], "3 answers to 2"),
        ([[None]], r"no list with a string, but \[None\]"),
        ([[]], r"no list with a string, but \[\]"),
        (["A", "B"], "no list with a string, but 'A'"),
        ({"message": "The model is overloaded", "code": 3}, "no answers, but {'message'"),
    ],
)
def test_a_model_that_breaks_the_rules_is_an_error(path: Path, answers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(Journal(path, lambda prompts: answers if list(prompts) else []), "a", "b")


def test_what_could_not_be_read_again_is_not_recorded(path: Path) -> None:
    journal = Journal(path, lambda prompts: ([Answer(p, "ok", 10**30, 1)] for (p,) in prompts))
    with pytest.raises(ValueError, match="not JSON"):
        ask(journal, "a")
    assert not path.exists()
    journal.close()
    assert ask(Journal(path, Upper()), "a") == ["A"]


def test_the_models_context_length_is_seen_through_the_journal(path: Path) -> None:
    model = Upper()
    assert Journal(path, model).context_length is None
    model.context_length = 4096  # type: ignore[attr-defined]
    assert Journal(path, model).context_length == 4096


def test_a_model_that_takes_no_prompt_is_an_error(path: Path) -> None:
    for answers, count in (([["A"]], 1), ([], 0)):
        with pytest.raises(ValueError, match=f"{count} answers to 0 prompts"):
            ask(Journal(path, lambda prompts, answers=answers: answers), "a")


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
