import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metaie.loss import WeightedCrossEntropy, create_tag_loss


def softmax(logits: numpy.ndarray) -> numpy.ndarray:
    exp = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 5))
def test_the_gradient_is_that_of_the_loss(seed: int, answer_weight: float) -> None:
    rng = numpy.random.default_rng(seed)
    logits = [rng.normal(size=(4, 3)), rng.normal(size=(2, 3))]
    tags = [rng.dirichlet([1, 1, 1], size=4), rng.dirichlet([1, 1, 1], size=2)]
    tag_loss = create_tag_loss(weight=answer_weight)
    loss, gradient = tag_loss([softmax(x) for x in logits], tags)
    assert [g.shape for g in gradient] == [(4, 3), (2, 3)]
    for q, i, j in [(0, 0, 0), (0, 3, 2), (1, 1, 1)]:
        moved = [x.copy() for x in logits]
        moved[q][i, j] += 1e-5
        change = tag_loss([softmax(x) for x in moved], tags)[0] - loss
        assert change / 1e-5 == pytest.approx(gradient[q][i, j], abs=1e-4)


def test_right_and_certain_answers_cost_nothing() -> None:
    loss, gradient = create_tag_loss()([numpy.eye(3)], [numpy.eye(3)])
    assert loss == pytest.approx(0.0) and not numpy.any(gradient[0])
    assert create_tag_loss()([], []) == (0.0, [])


def test_answers_weigh_more_than_o() -> None:
    probs, tags = [numpy.full((2, 3), 1 / 3)], [numpy.eye(3)[[0, 2]]]
    (gradient,) = create_tag_loss(weight=4.0)(probs, tags)[1]
    assert abs(gradient[0]).sum() == pytest.approx(4 * abs(gradient[1]).sum())


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="initial_weight"):
        create_tag_loss(initial_weight=0.0)


def test_the_weight_decays_to_its_end() -> None:
    tag_loss = WeightedCrossEntropy(initial_weight=4.0, weight=1.0, decay_steps=2)
    weights = []
    for _ in range(4):
        weights.append(tag_loss.current_weight)
        tag_loss([numpy.full((1, 3), 1 / 3)], [numpy.eye(3)[[0]]])
    assert weights == pytest.approx([4.0, 2.0, 1.0, 1.0])
