import os
import pickle
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metaie.teacher import ledger as module
from metaie.teacher.budget import Budget, Prices, Tokens
from metaie.teacher.ledger import Ledger

TOKENS = st.builds(Tokens, st.integers(0, 500), st.integers(0, 500))


@given(
    st.integers(0, 5000),
    st.floats(0, 0.01),
    st.lists(st.tuples(TOKENS, st.floats(0, 1), st.booleans()), max_size=30),
)
def test_a_budget_is_never_passed(
    tokens: int, cost: float, requests: list[tuple[Tokens, float, bool]]
) -> None:
    ledger = Ledger(Prices(1.0, 4.0), Budget(tokens, cost))
    open_requests = []
    for most, share, known in requests:
        if ledger.reserve(most):
            used = Tokens(int(most.prompt * share), int(most.completion * share))
            open_requests.append((most, used if known else None))
        if len(open_requests) > 3:
            ledger.settle(*open_requests.pop(0))
        assert ledger.stats.tokens.total <= tokens
        assert ledger.stats.cost <= cost
    for request in open_requests:
        ledger.settle(*request)
    assert ledger.stats.tokens.total <= tokens
    assert ledger.stats.cost <= cost


def test_what_is_not_used_is_free_again() -> None:
    ledger = Ledger(Prices(), Budget(tokens=100))
    most = Tokens(60, 30)
    assert ledger.reserve(most) and not ledger.reserve(most)
    ledger.settle(most, Tokens(5, 5))
    assert ledger.reserve(most)
    ledger.settle(most, None)
    assert not ledger.reserve(Tokens(1, 0))
    stats = ledger.stats
    assert (stats.prompt_tokens, stats.completion_tokens, stats.estimated_tokens) == (65, 35, 90)
    assert stats.requests == 2
    assert "100 tokens (of which 90 estimated)" in str(ledger.refuse(most))


def test_money() -> None:
    ledger = Ledger(Prices(0.5, 2.0), Budget(cost=3.0))
    assert ledger.reserve(Tokens(2_000_000, 1_000_000))
    assert not ledger.reserve(Tokens(1, 0))
    ledger.settle(Tokens(2_000_000, 1_000_000), Tokens(1_000_000, 500_000))
    assert ledger.stats.cost == 1.5
    assert "1,500,000 tokens, which cost 1.5" in ledger.stats.describe()


def test_rates() -> None:
    ledger = Ledger(Prices(), Budget(), requests_per_minute=60, tokens_per_minute=6000)
    assert ledger.wait(Tokens(500, 500)) == 0
    # A thousand tokens are worth ten seconds, unless they are given back.
    assert 5 < ledger.wait(Tokens(1, 0)) <= 10
    ledger.reserve(Tokens(500, 500))
    ledger.settle(Tokens(500, 500), Tokens(10, 10))
    assert ledger.wait(Tokens(1, 0)) <= 2


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "3", True, [1]])
def test_amounts_are_checked(value: object) -> None:
    for make in (Prices, Budget):
        for name in make.__dataclass_fields__:
            with pytest.raises(ValueError, match=rf"\.{name} must be a number"):
                make(**{name: value})


def test_a_ledger_is_pickled() -> None:
    ledger = Ledger(Prices(1.0, 1.0), Budget(tokens=10))
    ledger.reserve(Tokens(5, 5))
    assert not pickle.loads(pickle.dumps(ledger)).reserve(Tokens(1, 0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_fork_while_another_thread_counts() -> None:
    ledger = Ledger(Prices(), Budget())
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with module._lock:
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    pid = os.fork()
    if not pid:
        ledger.count_answer("ok")  # would wait for ever
        os._exit(0 if ledger.stats.outcomes["ok"] == 1 else 1)
    release.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
