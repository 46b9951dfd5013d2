import asyncio
import gc
import json
import logging
import multiprocessing
import pickle
import re
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import spacy
from chat_server import ChatServer, count_tokens, default_answer
from metaie.spans import get_answers
from metaie.teacher.answer import Answer
from metaie.teacher.budget import Budget, BudgetReached, Prices
from metaie.teacher.chat import LOOK_AHEAD, Chat, make_chat
from metaie.teacher.journal import Journal
from spacy_llm.registry import registry
from spacy_llm.util import assemble_from_config

KEY = "sk-very-secret-0123456789"
CONFIG = Path(__file__).parents[2] / "configs" / "teacher.cfg"


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    yield
    if is_running():
        gc.collect()  # a stream that an exception's traceback holds
    assert not is_running()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


def is_running() -> bool:
    return any(thread.name == "metaie-chat" for thread in threading.enumerate())


def make(server: ChatServer, **settings: Any) -> Chat:
    return Chat("test", server.base_url, **{"backoff": 0.01, "concurrency": 8, **settings})


def ask(chat: Any, *prompts: str) -> list[Answer]:
    return [answer for (answer,) in chat([prompt] for prompt in prompts)]


def read_until_error(stream: Any) -> tuple[list[Any], Exception]:
    """What is handed over before an error, and the error."""
    found = []
    try:
        for answers in stream:
            found.append(answers)
    except Exception as err:
        return found, err
    raise AssertionError("there is no error")


def numbered(count: int) -> list[str]:
    return [f"prompt {i}" for i in range(count)]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_answers_come_in_order_with_their_tokens() -> None:
    with ChatServer(jitter=0.02) as server:
        chat = make(server)
        prompts = numbered(100)
        answers = ask(chat, *prompts)
        assert answers == [default_answer(prompt) for prompt in prompts]
        assert {(a.outcome, a.prompt_tokens, a.completion_tokens) for a in answers} == {
            ("ok", 2, 3)
        }
        assert server.most_open <= 8
        stats = chat.stats
        assert (stats.requests, stats.outcomes) == (100, {"ok": 100})
        assert (stats.prompt_tokens, stats.completion_tokens) == (200, 300)
        assert stats.estimated_tokens == 0 and stats.seconds > 0


def test_requests_are_sent_in_the_order_of_their_prompts(server: ChatServer) -> None:
    ask(make(server, concurrency=1), *numbered(20))
    assert server.order == numbered(20)


def test_docs_with_several_prompts_or_none(server: ChatServer) -> None:
    docs = [["a", "b"], [], (p for p in "c"), [f"{i}" for i in range(100)], []]
    answers = list(make(server, concurrency=2)(docs))
    assert [len(list(group)) for group in answers] == [2, 0, 1, 100, 0]
    assert answers[0] == [default_answer("a"), default_answer("b")]
    assert answers[2] == [default_answer("c")]


def test_no_prompts_need_no_server() -> None:
    assert list(Chat("test", "http://127.0.0.1:9/v1", api_key_env="NOT_SET")([])) == []


def test_what_is_sent(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", f" {KEY}\n")
    extra = {"top_p": 0.5, "chat_template_kwargs": {"enable_thinking": False}}
    ask(make(server, api_key_env="TEST_KEY", max_tokens=99, extra_body=extra), "Ü 💖 \ud800")
    assert server.last_body == {
        "model": "test",
        "messages": [{"role": "user", "content": "Ü 💖 ?"}],
        "temperature": 0.0,
        "max_tokens": 99,
        **extra,
    }
    assert server.last_headers["authorization"] == f"Bearer {KEY}"
    ask(make(server, temperature=None), "a")
    assert set(server.last_body) == {"model", "messages"}


def test_another_servers_key_and_account_are_not_sent(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", KEY)
    ask(make(server), "a")
    assert KEY not in str(server.last_headers)
    assert "authorization" not in server.last_headers


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("rate_limit", "rate_limit"),
        ("rate_limit_date", "rate_limit"),
        ("server_error", "server_error"),
        ("bad_gateway", "server_error"),
        ("huge_error", "too_large"),
        ("request_timeout", "timeout"),
        ("drip", "timeout"),
        ("hang", "timeout"),
        ("conflict", "conflict"),
        ("cut", "connection"),
        ("hang_up", "connection"),
        ("not_json", "not_json"),
        ("deep_json", "not_json"),
        ("other_json", "no_choices"),
        ("no_choices", "no_choices"),
        ("error_in_200", "no_choices"),
        ("html", "html"),
        ("huge", "too_large"),
        ("huge_gzip", "too_large"),
        ("bad_gzip", "connection"),
        ("no_http", "connection"),
        ("odd_date", "rate_limit"),
    ],
)
def test_what_goes_wrong_is_tried_again(fault: str, reason: str) -> None:
    times = 1 if reason == "timeout" else 2
    with ChatServer({"b": [fault] * times}) as server:
        chat = make(server, timeout=1 if reason == "timeout" else 10)
        answers = ask(chat, "a", "b", "c")
        assert answers == [default_answer(prompt) for prompt in "abc"]
        assert server.asked == {"a": 1, "b": 1 + times, "c": 1}
        assert chat.stats.retries == {reason: times} and chat.stats.requests == 3 + times
        assert chat.stats.outcomes == {"ok": 3} and not chat.stats.failures


@pytest.mark.parametrize(
    ("fault", "reason", "error"),
    [
        ("server_error", "server_error", "answered 500"),
        ("html", "html", "base_url"),
        ("cut", "connection", "connection failed"),
        ("hang", "timeout", "within 0.5 seconds"),
        ("huge", "too_large", "4,194,304 bytes"),
        ("error_in_200", "no_choices", "upstream is down"),
    ],
)
def test_a_prompt_that_fails_each_time_is_no_crash(fault: str, reason: str, error: str) -> None:
    with ChatServer({"b": [fault] * 3}) as server:
        chat = make(server, max_tries=3, timeout=0.5 if fault == "hang" else 10)
        a, b, c = ask(chat, "a", "b", "c")
        assert (a, b, c) == (default_answer("a"), "", default_answer("c"))
        assert (b.outcome, b.prompt_tokens, b.completion_tokens) == ("failed", None, None)
        assert b.error is not None and error in b.error and "asked 3 times" in b.error
        assert server.asked["b"] == 3
        assert chat.stats.outcomes == {"ok": 2, "failed": 1}
        assert chat.stats.failures == {reason: 1} and chat.stats.retries == {reason: 2}


@pytest.mark.parametrize(
    ("fault", "outcome", "text", "error"),
    [
        ("refused", "refused", "", "I would rather not."),
        ("empty", "empty", " \n", None),
        ("cut_off", "cut_off", "- City: Lon", None),
        ("filtered", "filtered", "", "content filter"),
        ("filtered_prompt", "filtered", "", "The prompt was filtered"),
        ("filtered_403", "filtered", "", "The prompt was filtered"),
        ("odd_headers", "ok", default_answer("b"), None),
        ("too_long", "failed", "", "maximum context length"),
        ("bad_request", "failed", "", "Unsupported parameter"),
        ("parts", "ok", "- A: b", None),
        ("gzip", "ok", default_answer("b"), None),
        ("no_usage", "ok", default_answer("b"), None),
        ("odd_usage", "ok", default_answer("b"), None),
    ],
)
def test_outcomes_that_are_not_tried_again(
    fault: str, outcome: str, text: str, error: str | None
) -> None:
    with ChatServer({"b": [fault]}) as server:
        chat = make(server)
        _, answer, _ = ask(chat, "a", "b", "c")
        assert (answer, answer.outcome) == (text, outcome)
        assert (error or "") in (answer.error or "") and (error is None) == (answer.error is None)
        assert server.asked["b"] == 1
        assert chat.stats.outcomes == Counter(["ok", outcome, "ok"])
        assert chat.stats.failures == ({fault: 1} if outcome == "failed" else {})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("refused_key", r"refused access \(401\).*'TEST_KEY'"),
        ("forbidden", r"refused access \(403\).*'TEST_KEY'"),
        ("no_model", r"no model 'test' at 'http://127.*model does not exist"),
        ("no_credit", "no credit left.*Insufficient balance"),
        ("no_quota", "no credit left"),
        ("redirect", "redirects to 'http://127.0.0.1:9/v1'"),
    ],
)
def test_what_no_try_can_mend_stops_the_run(
    fault: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with ChatServer({p: [fault] * 9 for p in numbered(100)[30:]}, jitter=0.01) as server:
        chat = make(server, api_key_env="TEST_KEY")
        answers, err = read_until_error(chat([p] for p in numbered(100)))
        assert isinstance(err, ValueError) and re.search(message, str(err))
        assert KEY not in "".join(traceback.format_exception(err))
        # What came before is handed over, and no more than what was in flight was asked.
        assert answers == [[default_answer(prompt)] for prompt in numbered(30)]
        assert server.done[fault] <= 8
        assert set(server.asked.values()) == {1}


def test_a_key_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat("test", "http://127.0.0.1:9/v1", api_key_env="TEST_KEY")
    for value, message in ((" ", "'TEST_KEY' is not set"), ("a\nb", "'TEST_KEY' holds is no key")):
        monkeypatch.setenv("TEST_KEY", value)
        with pytest.raises(ValueError, match=message):
            ask(chat, "a")


def test_a_server_that_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with ChatServer(key=KEY) as server:
        with pytest.raises(ValueError, match="`api_key_env`"):
            ask(make(server), "a")
        assert ask(make(server, api_key_env="TEST_KEY"), "a") == [default_answer("a")]


def test_the_key_is_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "journal.jsonl"
    with ChatServer({"a": ["server_error"] * 3}) as server:  # it repeats the key
        chat = make(server, api_key_env="TEST_KEY", max_tries=3)
        (answer,) = ask(chat, "a")
        assert answer.error is not None and "You sent Bearer ***" in answer.error
        server.script = {"e": ["echo"] * 3}
        (answer,) = ask(chat, "e")
        assert answer.error is not None and "***" in answer.error and "sk-" not in answer.error
        ask(Journal(path, chat), "b")
    assert caplog.text and KEY not in caplog.text
    assert KEY not in path.read_text()
    assert KEY.encode() not in pickle.dumps(chat)
    assert KEY not in str(vars(chat))


@pytest.mark.parametrize("key", ["none", "content", "ollama"])
def test_a_key_that_is_no_secret_does_not_spoil_answers(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", key)
    with ChatServer(answers={"a": f"- Date: none\n- Tool: {key}"}) as server:
        assert ask(make(server, api_key_env="TEST_KEY"), "a") == [f"- Date: none\n- Tool: {key}"]


def test_a_key_that_comes_back_in_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-slash/ed-0123456789")
    with ChatServer({"a": ["says_key"]}) as server:
        journal = Journal(tmp_path / "journal.jsonl", make(server, api_key_env="TEST_KEY"))
        assert ask(journal, "a") == ["Bearer ***"]
    assert "0123456789" not in (tmp_path / "journal.jsonl").read_text()


def test_answers_are_recorded_as_they_come_and_not_at_their_turn(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    prompts = numbered(100)
    with ChatServer({prompts[3]: ["hang", "ok"]}) as server:
        taken: list[str] = []
        docs = ([prompt] for prompt in prompts if not taken.append(prompt))  # type: ignore[func-returns-value]
        stream: Any = Journal(path, make(server, concurrency=4))(docs)
        assert [next(stream) for _ in range(3)] == [[default_answer(p)] for p in prompts[:3]]
        # The fourth hangs; what has overtaken it is in the journal.
        wait_until(lambda: path.read_bytes().count(b"\n") == len(taken) - 1)
        assert len(taken) > 4
        stream.close()
        assert ask(Journal(path, make(server)), *prompts) == [default_answer(p) for p in prompts]
        assert server.done["ok"] == 100
        # Read in the other order, for what came late.
        assert ask(Journal(path), *prompts[::-1]) == [default_answer(p) for p in prompts[::-1]]


def test_a_journal_that_cannot_be_written_ends_the_stream(tmp_path: Path) -> None:
    def refuse(prompt: str, answer: Answer) -> Answer:
        raise OSError("the disk is full")

    with ChatServer() as server, pytest.raises(OSError, match="the disk is full"):
        list(make(server).stream_answers([["a"], ["b"]], refuse))


def test_tools_count_for_the_budget() -> None:
    tools = [{"type": "function", "function": {"name": "x" * 10_000}}]
    with ChatServer() as server:
        chat = make(server, budget=Budget(tokens=9_000), max_tokens=10, extra_body={"tools": tools})
        with pytest.raises(BudgetReached, match="may take up to 10,"):
            ask(chat, "a")
        assert not server.asked


def test_prompts_are_taken_no_further_than_the_look_ahead(server: ChatServer) -> None:
    taken = []

    def prompts() -> Iterator[list[str]]:
        for i in range(500):
            taken.append(i)
            yield [f"{i}"]

    stream = make(server, concurrency=2)(prompts())
    for count, _ in enumerate(stream, start=1):
        # The reader is slow, and the server is not.
        assert len(taken) <= count + 2 * LOOK_AHEAD
        if count == 100:
            break
    time.sleep(0.05)
    assert sum(server.asked.values()) <= 100 + 2 * LOOK_AHEAD
    del stream


def test_an_answer_does_not_wait_for_prompts_that_are_slow_to_come(server: ChatServer) -> None:
    answered = threading.Event()

    def prompts() -> Iterator[list[str]]:
        yield ["a"]
        wait_until(lambda: server.done["ok"] >= 1)
        time.sleep(0.1)  # until the answer is read
        yield ["b"]
        assert answered.wait(10)
        yield ["c"]

    for (answer,) in make(server)(prompts()):
        if answer == default_answer("a"):
            answered.set()
    assert answered.is_set()


def test_a_slow_answer_does_not_hold_up_others() -> None:
    with ChatServer({"0": ["hang", "ok"]}) as server:
        answers = make(server, concurrency=2, timeout=1.0)([f"{i}"] for i in range(100))
        assert next(iter(answers)) == [default_answer("0")]
        assert sum(server.asked.values()) >= 2 * LOOK_AHEAD


@pytest.mark.parametrize("how", ["close", "drop", "error"])
def test_a_reader_that_leaves_early(how: str) -> None:
    with ChatServer({p: ["hang"] for p in numbered(100)[1:]}) as server:
        chat = make(server)
        stream: Any = chat([p] for p in numbered(100))
        assert next(stream) == [default_answer("prompt 0")]
        wait_until(lambda: server.open == 8)
        if how == "close":
            stream.close()
        elif how == "error":
            with pytest.raises(KeyError):
                stream.throw(KeyError("reader"))
        del stream
        assert not is_running()
        wait_until(lambda: server.left == 8)
        # What the server may have charged for is counted.
        assert chat.stats.estimated_tokens > 0
        assert ask(chat, "more") == [default_answer("more")]


def test_prompts_that_end_in_an_error(server: ChatServer) -> None:
    def prompts() -> Iterator[list[str]]:
        yield ["a"]
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        list(make(server)(prompts()))


def test_what_was_answered_before_the_source_failed_is_kept(
    server: ChatServer, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"

    def prompts() -> Iterator[list[str]]:
        yield from ([prompt] for prompt in numbered(10))
        wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") == 10)
        raise KeyError("source")

    journal = Journal(path, make(server))
    with pytest.raises(KeyError, match="source"):
        list(journal(prompts()))
    assert journal.find("prompt 9") == default_answer("prompt 9")
    assert ask(journal, *numbered(10)) == [default_answer(prompt) for prompt in numbered(10)]
    assert server.done["ok"] == 10


def test_where_another_loop_runs(server: ChatServer) -> None:
    async def cell() -> list[Answer]:
        return ask(make(server), *numbered(20))

    assert asyncio.run(cell()) == [default_answer(prompt) for prompt in numbered(20)]


def test_streams_that_take_turns(server: ChatServer) -> None:
    chat = make(server)
    pairs = zip(chat([["a"]] * 30), chat([["b"]] * 30), strict=True)
    assert list(pairs) == [([default_answer("a")], [default_answer("b")])] * 30
    assert chat.stats.outcomes == {"ok": 60}


def test_threads(server: ChatServer) -> None:
    chat, found = make(server), []

    def run(i: int) -> None:
        found.append(ask(chat, f"{i}") == [default_answer(f"{i}")])

    threads = [threading.Thread(target=run, args=[i]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8 and chat.stats.requests == 8


def test_tokens_of_answers_that_are_lost_are_estimated() -> None:
    with ChatServer({"a": ["cut", "not_json", "server_error", "rate_limit"]}) as server:
        chat = make(server, max_tokens=50)
        ask(chat, "a")
        most = 1 + 256 + 50
        # Errors are not charged for.
        assert chat.stats.estimated_tokens == 2 * most
        assert chat.stats.tokens == (2 * 257 + 1, 2 * 50 + 3)


@pytest.mark.parametrize("budget", [{"tokens": 3000}, {"cost": 0.004}])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_budget_is_not_passed(budget: dict[str, float], concurrency: int) -> None:
    prices = {"prompt": 1.0, "completion": 2.0}
    with ChatServer(jitter=0.005) as server:
        chat = make_chat(
            "test",
            server.base_url,
            concurrency=concurrency,
            max_tokens=20,
            prices=prices,
            budget=budget,
        )
        prompts = [f"{i} " + "word " * 20 for i in range(500)]
        answers, err = read_until_error(chat([prompt] for prompt in prompts))
        assert isinstance(err, BudgetReached) and "with a journal" in str(err)
        # All that was paid for is handed over, in order.
        assert answers == [[default_answer(prompt)] for prompt in prompts[: len(answers)]]
        assert len(answers) == server.done["ok"] == chat.stats.requests
        tokens = server.prompt_tokens + server.completion_tokens
        assert chat.stats.tokens == (server.prompt_tokens, server.completion_tokens)
        cost = (server.prompt_tokens + 2 * server.completion_tokens) / 1e6
        assert chat.stats.cost == pytest.approx(cost)
        most = len(prompts[-1]) + 256 + 20
        if "tokens" in budget:
            assert 3000 - most < tokens <= 3000
        else:
            assert 0.004 - (most + 20) / 1e6 < cost <= 0.004
        assert f"{tokens:,} tokens" in str(err)
        # It is for all that the model is asked.
        with pytest.raises(BudgetReached):
            ask(chat, prompts[-1])
        assert server.done["ok"] == len(answers)


def test_a_journal_goes_on_where_the_budget_ended(tmp_path: Path) -> None:
    prompts = [f"{i} " + "word " * 20 for i in range(100)]
    with ChatServer() as server:
        done = []
        for _ in range(50):
            chat = make(server, max_tokens=20, budget=Budget(tokens=1000))
            try:
                done = ask(Journal(tmp_path / "journal.jsonl", chat), *prompts)
                break
            except BudgetReached:
                pass
        assert done == [default_answer(prompt) for prompt in prompts]
        assert set(server.asked.values()) == {1}
        assert server.prompt_tokens > 2000


def test_a_doc_of_which_a_part_was_paid_is_handed_over(server: ChatServer) -> None:
    chat = make(server, concurrency=1, max_tokens=3, budget=Budget(tokens=275))
    docs = [["a", "b"], ["c", "d", "e", "f"], ["g"]]
    found, err = read_until_error(chat(docs))
    assert isinstance(err, BudgetReached)
    groups = [[(str(answer), answer.outcome) for answer in group] for group in found]
    shown = [(default_answer(p), "ok") for p in "abcd"]
    assert groups == [shown[:2], [*shown[2:], ("", "failed"), ("", "failed")]]


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    chat = Chat("test", url, max_tries=2, backoff=0.01, concurrency=4)
    answers, err = read_until_error(chat([p] for p in numbered(1000)))
    assert isinstance(err, ValueError)
    assert re.search(rf"'{url}' can't be reached.*{port}.*Is it running", str(err))
    assert 1 <= len(answers) <= 4
    assert chat.stats.tokens.total == 0


def test_a_server_that_goes_away() -> None:
    with ChatServer() as server:
        chat = make(server, max_tries=2, max_failures_in_row=20, concurrency=4)
        ask(chat, "a")
        paid = chat.stats.tokens
    answers, err = read_until_error(chat([p] for p in numbered(1000)))
    assert isinstance(err, ValueError)
    assert re.match(r"20 prompts failed .*connection failed.*journal", str(err))
    assert 20 <= len(answers) < 20 + 4
    assert {answer.outcome for (answer,) in answers} == {"failed"}
    # Nothing was sent, so that nothing is charged.
    assert chat.stats.tokens == paid
    assert 20 <= chat.stats.failures["connection"] <= len(answers)


def test_failures_in_a_row_are_forgiven_by_an_answer() -> None:
    faults = {f"prompt {i}": ["bad_request"] for i in range(100) if i % 10}
    with ChatServer(faults) as server:
        chat = make(server, concurrency=1, max_failures_in_row=10)
        answers = ask(chat, *numbered(100))
        assert Counter(answer.outcome for answer in answers) == {"ok": 10, "failed": 90}


@pytest.mark.parametrize("rate", ["requests_per_minute", "tokens_per_minute"])
def test_rates_are_kept(server: ChatServer, rate: str) -> None:
    stream = make(server, **{rate: 1})([p] for p in numbered(5))
    assert next(iter(stream)) == [default_answer("prompt 0")]
    time.sleep(0.1)
    assert server.order == ["prompt 0"]  # the next would be sent in a minute


def test_a_run_that_stops_does_not_wait_for_its_next_tries() -> None:
    with ChatServer({"a": ["rate_limit"], "b": ["no_model"]}, retry_after="60") as server:
        began = time.monotonic()
        answers, err = read_until_error(make(server)([["a"], ["b"]]))
        assert not answers and "no model" in str(err)
        assert time.monotonic() - began < 60


FAULTS = [
    *("rate_limit", "server_error", "bad_gateway", "request_timeout", "conflict"),
    *("cut", "hang_up", "not_json", "html", "no_choices", "error_in_200", "huge"),
    *("cut_off", "filtered", "refused", "empty", "too_long", "no_usage"),
]


def test_every_prompt_is_accounted_for_when_a_third_goes_wrong() -> None:
    count = 400
    with ChatServer(faults=dict.fromkeys(FAULTS, 0.3 / len(FAULTS)), jitter=0.01) as server:
        chat = make(server, concurrency=32, timeout=30, max_tries=4)
        answers = ask(chat, *numbered(count))
        expected = [expect(server, prompt, 4) for prompt in numbered(count)]
        assert [answer.outcome for answer in answers] == expected
        assert chat.stats.outcomes == Counter(expected)
        right = [(a, p) for a, p in zip(answers, numbered(count), strict=True) if a.outcome == "ok"]
        assert all(answer == default_answer(prompt) for answer, prompt in right)
        assert chat.stats.requests == server.done.total()
        assert chat.stats.retries.total() == server.done.total() - count
        assert server.done.total() - server.done["ok"] > 0.2 * count


def expect(server: ChatServer, prompt: str, max_tries: int) -> str:
    """The outcome that the server's schedule leads to."""
    for number in range(max_tries):
        what = server.choose(prompt, number)
        if what in ("ok", "no_usage"):
            return "ok"
        if what == "too_long":
            return "failed"
        if what in ("cut_off", "filtered", "refused", "empty"):
            return what
    return "failed"


def test_a_summary_is_logged(server: ChatServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="spacy")
    ask(make(server, prices=Prices(1000.0, 1000.0)), "a b", "c")
    (message,) = [record.getMessage() for record in caplog.records if record.name == "spacy"]
    assert "2 answers to 2 requests; outcomes: ok 2; 9 tokens, which cost 0.0090" in message
    assert count_tokens("a b") == 2


def test_a_line_shows_progress(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with ChatServer(latency=0.45) as slow:
        chat = make(slow, concurrency=1)
        ask(chat, "a", "b", "c")
        assert "prompts/s" in (shown := capsys.readouterr().err) and "tokens, 0 failed" in shown
        list(chat([["a"], ["b"], ["c"]]))  # whoever has a list has a bar of his own
        assert "prompts" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "127.0.0.1:8000"}, "base_url must be a URL"),
        ({"base_url": "ftp://a/v1"}, "base_url must be a URL.*'ftp://a/v1'"),
        ({"base_url": "http://"}, "base_url must be a URL"),
        ({"base_url": "http://[::1/v1"}, "base_url"),
        ({"base_url": "http://me:secret@a/v1"}, "api_key_env"),
        ({"concurrency": 0}, "concurrency must be .* at least 1, not 0"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"max_tries": 0}, "max_tries must be"),
        ({"backoff": -1}, "backoff must be"),
        ({"max_failures_in_row": 0}, "max_failures_in_row must be"),
        ({"max_tokens": 0}, "max_tokens must be"),
        ({"requests_per_minute": 0}, "requests_per_minute must be"),
        ({"tokens_per_minute": -5}, "tokens_per_minute must be"),
        ({"extra_body": {"stream": True, "n": 2}}, "must not set n, stream"),
        ({"budget": {"tokens": 10}}, "needs max_tokens"),
        ({"budget": {"cost": 10}, "max_tokens": 10}, "needs `prices`"),
        ({"budget": {"token": 10}}, "budget has tokens and cost, but no token"),
        ({"prices": {"input": 1}}, "prices has prompt and completion, but no input"),
        ({"prices": {"prompt": -1}}, "prices.prompt must be"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_chat(**{"name": "test", "base_url": "http://127.0.0.1:9/v1", **settings})
    assert "secret" not in str(caught.value)


def test_a_limit_under_its_newer_name_is_one() -> None:
    body = {"max_completion_tokens": 100}
    make_chat("test", "http://127.0.0.1:9/v1", extra_body=body, budget={"tokens": 9})


@pytest.mark.parametrize("module", ["openai", "aiohttp", "httpx2"])
def test_without_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "metaie.teacher.client", raising=False)
    monkeypatch.delitem(sys.modules, "metaie.teacher.stream", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r'pip install "metaie\[chat\]"'):
        ask(Chat("test", "http://127.0.0.1:9/v1"), "a")


def ask_in_child(chat: Chat, stream: Any) -> None:
    stream.close()  # what the child has inherited is not its own
    sys.exit(0 if ask(chat, "child") == [default_answer("child")] else 1)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="only where processes fork")
def test_a_fork_while_a_stream_is_open() -> None:
    with ChatServer(jitter=0.01) as server:
        chat = make(server)
        stream: Any = chat([p] for p in numbered(100))
        answers = [next(stream)[0]]
        context = multiprocessing.get_context("fork")
        child = context.Process(target=ask_in_child, args=(chat, stream))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        answers += [answer for (answer,) in stream]
        assert answers == [default_answer(prompt) for prompt in numbered(100)]


def make_config(server: ChatServer, journal: Path | None = None) -> spacy.util.Config:
    model: dict[str, Any] = {
        "@llm_models": "metaie.Chat.v1",
        "name": "test",
        "base_url": server.base_url,
        "max_tokens": 100,
        "extra_body": {"top_p": 0.5},
        "prices": {"prompt": 0.15, "completion": 0.6},
        "budget": {"tokens": 1_000_000, "cost": 1.5},
    }
    if journal:
        model = {"@llm_models": "metaie.Journal.v1", "path": str(journal), "model": model}
    llm = {
        "factory": "llm",
        "task": {"@llm_tasks": "metaie.ImportantInformation.v1"},
        "model": model,
    }
    return spacy.util.Config(
        {"nlp": {"lang": "en", "pipeline": ["llm"]}, "components": {"llm": llm}}
    )


class CityServer(ChatServer):
    """Finds London in everything."""

    def completion(self, prompt: str, content: object = "- City: London", **more: Any) -> bytes:
        return super().completion(prompt, content, **more)


@pytest.mark.filterwarnings("error::UserWarning")  # spacy-llm warns of types that don't match
@pytest.mark.parametrize("n_process", [1, 2])
def test_in_a_pipeline(n_process: int) -> None:
    with CityServer() as server:
        nlp = assemble_from_config(make_config(server))
        docs = nlp.pipe([f"{i} in London" for i in range(20)], n_process=n_process, batch_size=5)
        found = [[span.text for span in get_answers(doc)["City"]] for doc in docs]
        assert found == [["London"]] * 20
        assert server.done["ok"] == 20 and server.last_body["top_p"] == 0.5


def test_behind_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with CityServer() as server:
        nlp = assemble_from_config(make_config(server, path))
        assert [doc.text for doc in nlp.pipe(["one London", "two London"])]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["response"], row["teacher"]) for row in rows] == [("- City: London", "test")] * 2


def test_a_pipeline_with_a_chat_is_saved(server: ChatServer, tmp_path: Path) -> None:
    nlp = assemble_from_config(make_config(server))
    nlp.to_disk(tmp_path)
    assert "metaie.Chat.v1" in (tmp_path / "config.cfg").read_text()
    assert isinstance(registry.llm_models.get("metaie.Chat.v1"), type(make_chat))


def test_the_blocks_of_the_shipped_config_work(tmp_path: Path) -> None:
    text = CONFIG.read_text(encoding="utf-8")
    head, _, rest = text.partition('# [components.llm.model.model]\n# @llm_models = "metaie.Chat')
    block = '[components.llm.model.model]\n@llm_models = "metaie.Chat' + "\n".join(
        line.removeprefix("# ").removeprefix("#") for line in rest.split("\n#\n")[0].split("\n")
    )
    config = head.replace("model = null\n", "") + "\n" + block
    path = tmp_path / "teacher.cfg"
    path.write_text(config, encoding="utf-8")
    with CityServer() as server:
        overrides = {
            "paths.journal": str(tmp_path / "journal.jsonl"),
            "components.llm.model.model.base_url": server.base_url,
        }
        nlp = assemble_from_config(spacy.util.load_config(path, overrides=overrides))
        assert [s.text for s in get_answers(nlp("In London"))["City"]] == ["London"]
