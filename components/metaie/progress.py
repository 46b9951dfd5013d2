"""One line that says how a run goes, while it does."""

from typing import Any, Self, TextIO

from tqdm import tqdm


class LiveLine:
    """How many texts are done, at what rate, the time left; tokens, cost and failures.

    total: how many texts there are. stats: what the model counts, if it does; see `Teacher`.
    file: where the line goes, by default stderr. It only shows on a terminal.
    """

    def __init__(self, total: int, stats: Any = None, file: TextIO | None = None) -> None:
        self.stats = stats
        self.failed = 0
        self.done = 0
        # With `miniters`, tqdm looks at the clock each time, and does not wait for as many texts
        # as came between two lines before: one shard may go fast, and the next slowly.
        self._bar = tqdm(
            total=total, unit=" texts", disable=None, file=file, dynamic_ncols=True, miniters=1
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def add(self, failed: bool = False) -> None:
        """Count a text that was annotated, or that failed."""
        self.done += 1
        self.failed += failed
        self._bar.set_postfix_str(describe_spending(self.stats, self.failed), refresh=False)
        self._bar.update()

    def skip(self, count: int) -> None:
        """Count texts that an earlier run annotated: the rate is that of the others."""
        self.done += count
        if not self._bar.disable:
            # Not `update`, from which tqdm learns the rate.
            self._bar.initial += count
            self._bar.n += count
            self._bar.last_print_n += count
            self._bar.refresh()


def describe_spending(stats: Any, failed: int) -> str:
    """Tokens and cost, where the model counts them, and failures, where there are any."""
    parts = []
    if tokens := count_tokens(stats):
        parts.append(f"{tokens:,} tokens")
    if cost := getattr(stats, "cost", None):
        parts.append(f"cost {cost:,.4f}")
    if failed:
        parts.append(f"{failed:,} failed")
    return ", ".join(parts)


def count_tokens(stats: Any) -> int | None:
    """The tokens of prompts and answers so far; None where the model does not count them."""
    if not hasattr(stats, "prompt_tokens") or not hasattr(stats, "completion_tokens"):
        return None
    return stats.prompt_tokens + stats.completion_tokens
