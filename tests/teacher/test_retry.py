from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metaie.teacher.retry import MAX_BACKOFF, MAX_RETRY_AFTER, get_backoff, read_retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-7"}, 0),
        ({"retry-after": "86400"}, MAX_RETRY_AFTER),
        ({"retry-after": "inf"}, MAX_RETRY_AFTER),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:15 GMT"}, 10),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:15"}, 10),
        ({"retry-after": "Fri, 02 Jan 2026 03:03:15 GMT"}, 0),
        ({"retry-after": "Fri, 02 Jan 2027 03:04:15 GMT"}, MAX_RETRY_AFTER),
        ({"retry-after": "Fri, 99 Jan 2026 03:04:15 GMT"}, None),
        ({"retry-after": "Mon, 1 Jan 99999999999 00:00:00 GMT"}, None),
    ],
)
def test_what_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers, NOW) == seconds


@given(st.integers(0, 119))
def test_dates_of_any_second(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert read_retry_after({"retry-after": date}, NOW) == seconds


@given(st.text())
def test_any_header(value: str) -> None:
    seconds = read_retry_after({"retry-after": value, "retry-after-ms": value})
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.integers(1, 10_000), st.floats(0, 100), st.none() | st.floats(0, MAX_RETRY_AFTER))
def test_backoff_is_bounded(tries: int, first: float, asked: float | None) -> None:
    wait = get_backoff(tries, first, asked)
    longest = min(first * 2.0 ** min(tries - 1, 60), MAX_BACKOFF)
    assert (asked or 0) + longest / 2 <= wait <= (asked or 0) + longest
