"""Which queries a training step asks."""

import math
import random
from collections.abc import Callable, Mapping, Sequence, Sized

Sampler = Callable[[Sequence[Mapping[str, Sized]]], list[list[str]]]


def create_sampler(
    max_queries: int = 0, sampled_negatives: float = 0.0, answered_share: float = 0.0
) -> Sampler:
    """Build `metaie.Sampler.v1`.

    The sampler takes, for each doc of a step, its labels with their answers; an
    empty answer is a known absence. It returns the labels to ask of each doc.

    max_queries: ask at most so many of a doc's own labels, drawn at random, so that
        a step sees many docs rather than every label of a few. 0 asks all.
    answered_share: of the labels drawn, at least this share have an answer, from 0 to 1, if
        the doc has so many; where most labels have none, they would drown the others.
    sampled_negatives: how many labels of the step's other docs to ask as well, as
        labels without an answer, a query of the doc's own; 0.1 makes one in eleven.
        They are not checked: a borrowed label may have an answer that nobody marked.
    """
    if max_queries < 0:
        raise ValueError(f"max_queries must be 0 (no limit) or more, not {max_queries}.")
    if sampled_negatives < 0:
        raise ValueError(f"sampled_negatives must be 0 or more, not {sampled_negatives}.")

    if not 0 <= answered_share <= 1:
        raise ValueError(f"answered_share must lie between 0 and 1, not be {answered_share}.")

    def draw(own: Mapping[str, Sized]) -> list[str]:
        answered = [label for label, found in own.items() if len(found)]
        sure = random.sample(answered, min(len(answered), math.ceil(answered_share * max_queries)))
        others = [label for label in own if label not in sure]
        return sure + random.sample(others, max_queries - len(sure))

    def sample(answers: Sequence[Mapping[str, Sized]]) -> list[list[str]]:
        pool = list(dict.fromkeys(label for own in answers for label in own))
        asked = []
        for own in answers:
            labels = list(own)
            if max_queries and len(labels) > max_queries:
                labels = draw(own)
            own_lower = {label.lower() for label in own}
            others = [label for label in pool if label.lower() not in own_lower]
            expected = sampled_negatives * len(labels)
            n_negatives = int(expected) + (random.random() < expected % 1)
            asked.append(labels + random.sample(others, min(n_negatives, len(others))))
        return asked

    return sample
