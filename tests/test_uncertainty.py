import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metaie.uncertainty import MEASURES
from thinc.types import Floats2d

SURE = [0.0, 0.0, 1.0]
TORN = [0.0, 0.5, 0.5]
LOST = [1 / 3, 1 / 3, 1 / 3]


def measure(name: str, *rows: list[float]) -> float:
    return MEASURES[name](numpy.array(rows, dtype="float32"))  # type: ignore[index,arg-type]


@pytest.mark.parametrize("name", MEASURES)
def test_from_certain_to_lost(name: str) -> None:
    sure, torn, lost = (measure(name, row, row) for row in (SURE, TORN, LOST))
    assert sure == pytest.approx(0.0, abs=1e-6)
    assert torn > 0.4
    assert lost > torn or name == "margin"


@pytest.mark.parametrize("name", ["entropy", "least_confidence", "margin"])
def test_means_do_not_grow_with_the_text(name: str) -> None:
    assert measure(name, TORN, SURE) == pytest.approx(measure(name, *[TORN, SURE] * 50))
    assert measure(name, TORN, SURE) < measure(name, TORN, TORN)


def test_what_the_measures_are() -> None:
    assert measure("entropy", LOST, SURE) == pytest.approx(0.5)
    # The geometric mean of 1/2 and 1.
    assert measure("least_confidence", TORN, SURE) == pytest.approx(1 - 0.5**0.5)
    assert measure("margin", [0.1, 0.3, 0.6]) == pytest.approx(0.7)
    assert measure("max_entropy", *[SURE] * 99, LOST) == pytest.approx(1.0)
    assert measure("total_entropy", *[SURE] * 98, LOST, LOST) == pytest.approx(2.0)


@settings(deadline=None)
@given(
    arrays("float32", st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(0, 1, width=32))
)
def test_means_lie_between_0_and_1(weights: Floats2d) -> None:
    weights = weights + numpy.float32(1e-3)
    probs = weights / weights.sum(axis=1, keepdims=True)
    for name, measure in MEASURES.items():
        most = len(probs) if name == "total_entropy" else 1
        assert -1e-6 <= measure(probs) <= most * (1 + 1e-6)
