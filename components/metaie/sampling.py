"""Which queries a training step asks."""

import random
from collections.abc import Callable, Mapping, Sequence, Sized

Sampler = Callable[[Sequence[Mapping[str, Sized]]], list[list[str]]]


def create_sampler(max_queries: int = 0, sampled_negatives: float = 0.0) -> Sampler:
    """Build `metaie.Sampler.v1`.

    The sampler takes, for each doc of a step, its labels with their answers; an
    empty answer is a known absence. It returns the labels to ask of each doc.

    max_queries: ask at most so many of a doc's own labels, drawn at random, so that
        a step sees many docs rather than every label of a few. 0 asks all.
    sampled_negatives: how many labels of the step's other docs to ask as well, as
        labels without an answer, a query of the doc's own; 0.1 makes one in eleven.
        They are not checked: a borrowed label may have an answer that nobody marked.
    """
    if max_queries < 0:
        raise ValueError(f"max_queries must be 0 (no limit) or more, not {max_queries}.")
    if sampled_negatives < 0:
        raise ValueError(f"sampled_negatives must be 0 or more, not {sampled_negatives}.")

    def sample(answers: Sequence[Mapping[str, Sized]]) -> list[list[str]]:
        pool = list(dict.fromkeys(label for own in answers for label in own))
        asked = []
        for own in answers:
            labels = list(own)
            if max_queries and len(labels) > max_queries:
                labels = random.sample(labels, max_queries)
            own_lower = {label.lower() for label in own}
            others = [label for label in pool if label.lower() not in own_lower]
            expected = sampled_negatives * len(labels)
            n_negatives = int(expected) + (random.random() < expected % 1)
            asked.append(labels + random.sample(others, min(n_negatives, len(others))))
        return asked

    return sample
