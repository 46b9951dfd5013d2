"""What was asked, answered and spent, and what may still be."""

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

from .budget import Budget, BudgetReached, Prices, Tokens
from .pace import Pace

# One for all ledgers, since a ledger with a lock of its own could not be pickled. It is held
# for no longer than a few sums take.
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    # Another thread may hold it while a process forks, and would never release it in the child.
    os.register_at_fork(after_in_child=_renew_lock)


@dataclass
class Stats:
    """What a model did since it was made.

    requests: that were sent, those that failed included.
    retries: requests that were sent again, by what went wrong before.
    outcomes: answers, by the outcomes of `Answer`.
    failures: answers with the outcome "failed", by what went wrong last.
    prompt_tokens, completion_tokens: as the server counts them. Where it did not say, because
        the answer was lost, the most that it can have been; `estimated_tokens` says how many
        of the tokens those are.
    cost: of the tokens, in the currency of the prices.
    seconds: how long streams were open.
    """

    requests: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0

    @property
    def tokens(self) -> Tokens:
        """All tokens so far."""
        return Tokens(self.prompt_tokens, self.completion_tokens)

    def describe_spending(self) -> str:
        """Tokens and money in words."""
        cost = f", which cost {self.cost:,.4f}" if self.cost else ""
        estimated = f" (of which {self.estimated_tokens:,} estimated)"
        return f"{self.tokens.total:,} tokens{estimated if self.estimated_tokens else ''}{cost}"

    def describe(self) -> str:
        """Everything in a line."""
        parts = [f"{self.outcomes.total():,} answers to {self.requests:,} requests"]
        for name, counts in (
            ("outcomes", self.outcomes),
            ("asked again after", self.retries),
            ("failed by", self.failures),
        ):
            if counts:
                shown = ", ".join(f"{what} {count:,}" for what, count in counts.most_common())
                parts.append(f"{name}: {shown}")
        return "; ".join([*parts, self.describe_spending(), f"{self.seconds:,.1f} s"])


class Ledger:
    """Keeps the counts, the budget and the rate limits of a model.

    Of a request, the most that it can use is reserved before it is sent, and settled when it
    is known what it did use. May be used from several threads.
    """

    def __init__(
        self,
        prices: Prices,
        budget: Budget,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self.stats = Stats()
        self.prices, self.budget = prices, budget
        self._reserved = Tokens()
        self._requests = Pace(requests_per_minute) if requests_per_minute else None
        self._tokens = Pace(tokens_per_minute) if tokens_per_minute else None
        self._failed_in_row = 0

    def wait(self, most: Tokens) -> float:
        """Take a request's place in the rate limits: the seconds until it may be sent."""
        with _lock:
            now = monotonic()
            waits = [0.0]
            if self._requests:
                waits.append(self._requests.take(1, now))
            if self._tokens:
                waits.append(self._tokens.take(most.total, now))
            return max(waits)

    def reserve(self, most: Tokens) -> bool:
        """Set tokens aside, unless they might pass the budget: then return False."""
        with _lock:
            reserved = self._reserved.plus(most)
            if not self.budget.allows(self.stats.tokens.plus(reserved), self.prices):
                return False
            self._reserved = reserved
            self.stats.requests += 1
            return True

    def settle(self, most: Tokens, used: Tokens | None) -> None:
        """Count what a request used of what was set aside: all of it, if that is not known."""
        with _lock:
            self._reserved = self._reserved.minus(most)
            stats = self.stats
            if used is None:
                stats.estimated_tokens += most.total
            total = stats.tokens.plus(most if used is None else used)
            stats.prompt_tokens, stats.completion_tokens = total
            stats.cost = self.prices.cost(total)
            if self._tokens and used is not None:
                self._tokens.give_back(most.total - used.total)

    def count_retry(self, reason: str) -> None:
        """Count a request that is sent again."""
        with _lock:
            self.stats.retries[reason] += 1

    def count_answer(self, outcome: str, failure: str | None = None) -> int:
        """Count an answer; returns how many failed in a row, up to it."""
        with _lock:
            self.stats.outcomes[outcome] += 1
            if failure:
                self.stats.failures[failure] += 1
            self._failed_in_row = self._failed_in_row + 1 if outcome == "failed" else 0
            return self._failed_in_row

    @property
    def has_answers(self) -> bool:
        """Whether any prompt did not fail."""
        with _lock:
            return self.stats.outcomes.total() > self.stats.outcomes["failed"]

    def forgive(self) -> None:
        """Count failures in a row from nothing, as when a run is started again."""
        with _lock:
            self._failed_in_row = 0

    def add_seconds(self, seconds: float) -> None:
        """Count the time that a stream was open."""
        with _lock:
            self.stats.seconds += seconds

    def refuse(self, most: Tokens) -> BudgetReached:
        """The error for a request that does not fit any more."""
        limits = []
        if self.budget.tokens is not None:
            limits.append(f"{self.budget.tokens:,.0f} tokens")
        if self.budget.cost is not None:
            limits.append(f"{self.budget.cost:,} in money")
        return BudgetReached(
            f"The budget of {' and '.join(limits)} is reached: {self.stats.describe_spending()} "
            f"are spent, and the next request may take up to {most.total:,}. Raise `budget` and "
            "run again: with a journal before the model, what is answered is not asked again."
        )
