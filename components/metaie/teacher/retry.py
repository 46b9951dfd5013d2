"""How long to wait before a request is sent again."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_BACKOFF = 30.0  # seconds
MAX_RETRY_AFTER = 120.0  # seconds


def get_backoff(tries: int, first: float, retry_after: float | None = None) -> float:
    """Seconds to wait after so many tries.

    Twice as long each time, up to `MAX_BACKOFF`, less up to a half by chance, so that requests
    that failed together do not return together. `first` is the longest wait after the first
    try. Never shorter than the server asked for.
    """
    longest = min(first * 2.0 ** min(tries - 1, 60), MAX_BACKOFF)
    jittered = longest * random.uniform(0.5, 1.0)
    # What the server asks for is the same for all, so that the chance comes on top.
    return jittered if retry_after is None else retry_after + jittered


def read_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The seconds that a server asks to wait, at most `MAX_RETRY_AFTER`; None if it does not.

    Reads `Retry-After`, in seconds or as a date, and `retry-after-ms`. What is neither is
    taken for nothing.
    """
    wait = read_seconds(headers.get("retry-after-ms"))
    wait = wait / 1000 if wait is not None else None
    value = headers.get("retry-after")
    if wait is None:
        wait = read_seconds(value)
    if wait is None and value is not None:
        try:
            date = parsedate_to_datetime(value)
            if date.tzinfo is None:
                date = date.replace(tzinfo=UTC)
            wait = (date - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, OverflowError):
            return None
    return None if wait is None else min(max(wait, 0.0), MAX_RETRY_AFTER)


def read_seconds(value: str | None) -> float | None:
    """A number of seconds; None for anything else."""
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    # NaN is not equal to itself.
    return seconds if seconds is not None and seconds == seconds else None
