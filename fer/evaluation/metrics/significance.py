"""Significance tests of the difference between two classifiers on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # of significance


class McNemar(NamedTuple):
    """Result of McNemar's test."""

    only_first: int  # examples that only the first model classifies correctly
    only_second: int  # examples that only the second model classifies correctly
    p: float  # two-sided, exact


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Compares two models on the same examples with McNemar's exact test.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), with the binomial distribution instead of its approximation: if both models are equally
    good, either is the correct one with probability 1/2 on each example that only one of them classifies correctly.

    Args:
      first, second: [n] bool, whether the prediction of each model is correct.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p = float(stats.binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_first, only_second, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p values for multiple comparisons by Holm's method; returns them in the order given.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979): the smallest of m values is multiplied by m, the next by m - 1, and so on, without ever decreasing.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
