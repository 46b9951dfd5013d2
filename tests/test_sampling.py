import random

import pytest
from metaie.sampling import create_sampler

ANSWERS = [{"a": [1], "b": [], "c": [1]}, {"d": [1], "B": []}, {}]


def test_every_label_is_asked_without_a_limit() -> None:
    assert create_sampler()(ANSWERS) == [["a", "b", "c"], ["d", "B"], []]


def test_the_limit_draws_different_labels() -> None:
    random.seed(0)
    sampler = create_sampler(max_queries=2)
    draws = [sampler(ANSWERS)[0] for _ in range(50)]
    assert all(len(set(labels)) == 2 for labels in draws)
    assert {label for labels in draws for label in labels} == {"a", "b", "c"}


def test_sampled_negatives_come_from_other_docs_only() -> None:
    random.seed(0)
    asked = create_sampler(sampled_negatives=1.0)(ANSWERS)
    assert asked[0][:3] == ["a", "b", "c"]
    assert asked[0][3:] == ["d"]  # "B" is the doc's own, in another case
    assert set(asked[1][2:]) <= {"a", "c"} and len(asked[1]) == 4
    assert asked[2] == []


def test_a_rate_below_one_is_met_on_average() -> None:
    random.seed(0)
    sampler = create_sampler(sampled_negatives=0.1)
    extra = sum(len(sampler(ANSWERS)[0]) - 3 for _ in range(2000)) / 2000
    assert extra == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("config", [{"max_queries": -1}, {"sampled_negatives": -0.5}])
def test_negative_settings_are_refused(config: dict) -> None:
    with pytest.raises(ValueError, match="-"):
        create_sampler(**config)
