"""The loss of the tags, and its gradient."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy
from thinc.types import Floats2d

from .decoding import TAGS, O

TagLoss = Callable[[Sequence[Floats2d], Sequence[Floats2d]], tuple[float, list[Floats2d]]]


class WeightedCrossEntropy:
    """Cross-entropy in which the tags B and I weigh more than O, at first.

    About 95 % of all tokens are O. An untrained tagger soon says nothing else, and
    sits on that plateau for thousands of queries before it looks at the label.
    Dear answers take it off; when they have, an even weight calibrates the scores.

    initial_weight: what B and I weigh in the first step, with O at 1.
    weight: what they weigh after `decay_steps` steps; in between it decays exponentially.
    """

    def __init__(self, initial_weight: float, weight: float, decay_steps: int) -> None:
        for name, value in (("initial_weight", initial_weight), ("weight", weight)):
            if value <= 0:
                raise ValueError(f"The loss's {name} must be positive, not {value}.")
        self.initial_weight = initial_weight
        self.weight = weight
        self.decay_steps = decay_steps
        self.step = 0

    @property
    def current_weight(self) -> float:
        """What B and I weigh in the next step."""
        if self.step >= self.decay_steps:
            return self.weight
        progress = self.step / self.decay_steps
        return self.initial_weight ** (1 - progress) * self.weight**progress

    def __call__(
        self, probs: Sequence[Floats2d], gold: Sequence[Floats2d]
    ) -> tuple[float, list[Floats2d]]:
        """Return the weighted mean over all tokens, and its gradient.

        probs, gold: one array a query, of shape (tokens, 3). What is to be learnt are
            probabilities as well: 1 for the tag of an annotation, others if a teacher is unsure.
        The gradient is that with regard to the logits, of the same shapes.
        """
        weights = numpy.full(len(TAGS), self.current_weight, dtype="float32")
        weights[O] = 1.0
        self.step += 1
        if not sum(map(len, probs)):
            return 0.0, list(probs)
        guess = numpy.concatenate(list(probs))
        wanted = numpy.concatenate(list(gold)) * weights
        wanted /= wanted.sum()
        loss = -(wanted * numpy.log(numpy.maximum(guess, 1e-9))).sum()
        gradient = guess * wanted.sum(axis=1, keepdims=True) - wanted
        ends = numpy.cumsum([len(p) for p in probs])
        return float(loss), cast(list[Floats2d], numpy.split(gradient, ends[:-1]))


def create_tag_loss(
    initial_weight: float = 1.0, weight: float = 1.0, decay_steps: int = 0
) -> TagLoss:
    """Build `metaie.TagLoss.v1`; see `WeightedCrossEntropy`."""
    return WeightedCrossEntropy(initial_weight, weight, decay_steps)
