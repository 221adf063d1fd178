"""Tests of `fer.evaluation.metrics.significance` against binomials counted by hand and SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from fer.evaluation.metrics import significance


def outcomes(both: int, only_first: int, only_second: int, neither: int) -> tuple:
    """Returns which predictions of two models are correct, [n] bool each, from the four counts."""
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return np.array(first), np.array(second)


def test_mcnemar_p_is_that_of_binomial_test():
    result = significance.mcnemar(*outcomes(50, 2, 9, 5))
    expected = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    assert (result.only_first, result.only_second) == (2, 9)
    assert result.p == pytest.approx(expected)


def test_mcnemar_ignores_examples_on_which_both_agree():
    assert significance.mcnemar(*outcomes(0, 3, 8, 0)).p == significance.mcnemar(*outcomes(900, 3, 8, 700)).p


def test_mcnemar_is_symmetric():
    first, second = outcomes(10, 4, 12, 3)
    assert significance.mcnemar(first, second).p == significance.mcnemar(second, first).p


def test_mcnemar_p_is_1_when_models_never_differ():
    assert significance.mcnemar(*outcomes(5, 0, 0, 5)).p == 1.0


def test_mcnemar_agrees_with_chi_squared_for_many_examples():
    result = significance.mcnemar(*outcomes(2000, 310, 250, 1000))
    corrected = (abs(310 - 250) - 1) ** 2 / 560
    assert result.p == pytest.approx(stats.chi2.sf(corrected, df=1), rel=0.02)


def test_holm_multiplies_by_number_of_remaining_tests():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_keeps_single_test_and_never_exceeds_1():
    assert significance.holm([0.2]) == [0.2]
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_of_empty_list_is_empty():
    assert significance.holm([]) == []
