import io
import itertools
import re
import sys
from types import SimpleNamespace

import pytest
from metaie.progress import LiveLine, count_tokens, describe_spending


class Terminal(io.StringIO):
    """Keeps what is written, as a terminal shows it."""

    def isatty(self) -> bool:
        return True


def test_the_line_says_how_the_run_goes() -> None:
    terminal = Terminal()
    stats = SimpleNamespace(prompt_tokens=0, completion_tokens=0, cost=0.0)
    with LiveLine(2000, stats, terminal) as line:
        line.skip(1000)
        for i in range(1000):
            stats.prompt_tokens += 10
            stats.cost += 0.001
            line.add(failed=i < 2)
    last = terminal.getvalue().split("\r")[-1]
    assert "2000/2000" in last
    assert " texts/s" in last
    assert "10,000 tokens, cost 1.0000, 2 failed" in last
    assert (line.done, line.failed) == (2000, 2)


def test_the_rate_is_that_of_what_was_annotated(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    terminal = Terminal()
    with LiveLine(9600, None, terminal) as line:
        for _ in range(3):
            line.skip(3000)
            for _ in range(200):
                now += 0.05
                line.add()
    shown = re.findall(r"(\d+)/9600 .* ([\d.]+) texts/s", terminal.getvalue().replace("\r", "\n"))
    rates = [float(rate) for _, rate in shown]
    assert rates == pytest.approx([20.0] * len(rates), rel=0.01)
    # Twenty come a second, and the line is written up to ten times.
    assert len(shown) > 200
    steps = {int(after) - int(before) for (before, _), (after, _) in itertools.pairwise(shown)}
    assert steps <= {0, 1, 2, 3, 3000}


def test_it_shows_on_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveLine(1, None, sys.stderr) as line:
        line.add()
    assert capsys.readouterr().err == ""


def test_models_that_count_nothing() -> None:
    assert count_tokens(None) is None
    assert count_tokens(SimpleNamespace(prompt_tokens=1)) is None
    assert count_tokens(SimpleNamespace(prompt_tokens=1, completion_tokens=2)) == 3
    assert describe_spending(None, 0) == ""
    assert describe_spending(None, 1200) == "1,200 failed"
