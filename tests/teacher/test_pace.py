from hypothesis import given
from hypothesis import strategies as st
from metaie.teacher.pace import CREDIT, Pace


def test_units_are_spread_evenly() -> None:
    pace = Pace(60)
    assert [pace.take(1, 100.0) for _ in range(4)] == [0, 1, 2, 3]
    assert pace.take(1, 103.5) == 0.5


def test_what_is_given_back_may_be_taken() -> None:
    pace = Pace(600)
    assert pace.take(100, 0.0) == 0
    pace.give_back(90)
    assert pace.take(10, 0.0) == 1.0
    pace.give_back(-10)
    assert pace.take(10, 0.0) == 3.0


def test_a_rest_is_caught_up_on_in_part() -> None:
    pace = Pace(60)
    pace.take(1, 0.0)
    assert [pace.take(1, 1000.0) for _ in range(8)] == [0] * 7 + [1]


@given(
    st.floats(1, 10_000),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 50)), min_size=1, max_size=40),
)
def test_the_rate_is_kept_in_every_window(
    per_minute: float, calls: list[tuple[float, float]]
) -> None:
    pace, now = Pace(per_minute), 0.0
    used = []
    for pause, amount in calls:
        now += pause
        now += pace.take(amount, now)
        used.append((now, amount))
    for i, (start, _) in enumerate(used):
        for j in range(i, len(used)):
            within = sum(amount for _, amount in used[i:j])  # the last is used at the end
            allowed = (used[j][0] - start + CREDIT) * per_minute / 60
            assert within <= allowed + used[i][1] + 1e-6
