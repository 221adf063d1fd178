"""Differences between two models, against binomials counted by hand and scipy's tests."""

import math

import numpy as np
import pytest
from scipy import stats

from fer.evaluation.metrics import significance


def answers(both: int, only_first: int, only_second: int, neither: int) -> tuple:
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return np.array(first), np.array(second)


def test_p_is_the_chance_that_fair_coins_fall_so_unevenly():
    found = significance.mcnemar(*answers(50, 2, 9, 5))
    expected = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    assert (found.only_first, found.only_second) == (2, 9)
    assert found.p == pytest.approx(expected)


def test_examples_on_which_both_agree_do_not_count():
    assert significance.mcnemar(*answers(0, 3, 8, 0)).p == significance.mcnemar(*answers(900, 3, 8, 700)).p


def test_mcnemar_is_symmetric():
    first, second = answers(10, 4, 12, 3)
    assert significance.mcnemar(first, second).p == significance.mcnemar(second, first).p


def test_models_that_never_differ_are_not_told_apart():
    assert significance.mcnemar(*answers(5, 0, 0, 5)).p == 1.0


def test_mcnemar_agrees_with_chi_squared_for_many_examples():
    found = significance.mcnemar(*answers(2000, 310, 250, 1000))
    corrected = (abs(310 - 250) - 1) ** 2 / 560
    assert found.p == pytest.approx(stats.chi2.sf(corrected, df=1), rel=0.02)


def test_holm_multiplies_by_the_tests_that_are_left():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_leaves_a_single_test_alone_and_never_exceeds_one():
    assert significance.holm([0.2]) == [0.2]
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_of_nothing_is_nothing():
    assert significance.holm([]) == []
