"""How unsure a tagger is of a text, as one number.

Settles and Craven (2008), "An analysis of active learning strategies for sequence labeling
tasks", compare such measures. A sum over the tokens favours long texts, which have more to
learn from and cost more to annotate; the others are means over the tokens, or of the most
doubtful one, lie in [0, 1], and may favour very short ones.
"""

from collections.abc import Callable
from typing import Literal

import numpy
from thinc.types import Floats2d

from .decoding import TAGS, take_log

Measure = Literal["entropy", "least_confidence", "margin", "max_entropy", "total_entropy"]


def get_token_entropies(probs: Floats2d) -> numpy.ndarray:
    """The entropy of every token's tags, 1 where all tags are as probable."""
    entropies = -(probs * take_log(probs)).sum(axis=1) / numpy.log(len(TAGS))
    return numpy.clip(entropies, 0.0, 1.0)


def measure_entropy(probs: Floats2d) -> float:
    """The mean entropy of tokens: Settles and Craven's token entropy."""
    return float(get_token_entropies(probs).mean())


def measure_total_entropy(probs: Floats2d) -> float:
    """The sum of the tokens' entropies: Settles and Craven's total token entropy."""
    return float(get_token_entropies(probs).sum())


def measure_least_confidence(probs: Floats2d) -> float:
    """What the best tags lack to be certain: 1 less the geometric mean of their probabilities.

    Least confidence, normalised as in Shen et al. (2018), arXiv 1707.05928 (their MNLP).
    """
    return float(1.0 - numpy.exp(take_log(probs).max(axis=1).mean()))


def measure_margin(probs: Floats2d) -> float:
    """1 less the mean lead of tokens' best tags over the second best."""
    best = numpy.sort(numpy.asarray(probs), axis=1)
    return float(1.0 - (best[:, -1] - best[:, -2]).mean())


def measure_max_entropy(probs: Floats2d) -> float:
    """The entropy of the most doubtful token: the many that are certain do not count."""
    return float(get_token_entropies(probs).max())


# By name; each takes the probabilities (tokens, 3) of one label in a text of a token or more.
MEASURES: dict[Measure, Callable[[Floats2d], float]] = {
    "entropy": measure_entropy,
    "least_confidence": measure_least_confidence,
    "margin": measure_margin,
    "max_entropy": measure_max_entropy,
    "total_entropy": measure_total_entropy,
}
