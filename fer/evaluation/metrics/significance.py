"""Whether one model is better than another, or only seems so on these examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05


class McNemar(NamedTuple):
    """The examples on which two models differ, and how likely so lopsided a split is among equals."""

    only_first: int  # that only the first classified rightly
    only_second: int
    p: float  # two-sided, exact


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Compares two models on the same examples.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), with the binomial distribution in place of its approximation: where both models are equally
    good, each example on which only one is right is a fair coin's toss.

    Args:
      first, second: [n] bool, whether each model was right.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p = float(stats.binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_first, only_second, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for how many there are, in their order.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979): the smallest is multiplied by their number, the next by one less, and so on, never falling.
    """
    corrected, reached = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = reached
    return corrected
