"""Tests of `fer.evaluation.metrics.bootstrap`."""

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats

from fer.evaluation.metrics import bootstrap, metrics
from fer.labels import CLASSES

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "cohen_kappa", "matthews", "log_loss", "brier")


def scores(count: int = 600, seed: int = 0) -> tuple:
    """Returns random labels [count] and probabilities [count, 7], about 66 % of them correct."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(7, 0.4), count)
    correct = random.random(count) < 0.6
    return np.where(correct, probabilities.argmax(axis=1), random.integers(0, 7, count)), probabilities


@pytest.fixture(scope="module")
def intervals() -> dict:
    return bootstrap.intervals(*scores())


@pytest.mark.parametrize("count", [600, 3589])
def test_intervals_of_accuracy_agree_with_wilson(count):
    labels, probabilities = scores(count)
    wilson = metrics.compute_metrics(labels, probabilities, CLASSES)["accuracy_ci95"]
    np.testing.assert_allclose(bootstrap.intervals(labels, probabilities)["accuracy"], wilson, atol=0.0035)


@pytest.mark.parametrize("name", NAMES)
def test_intervals_contain_the_metric(intervals, name):
    low, high = intervals[name]
    assert low < metrics.compute_metrics(*scores(), CLASSES)[name] < high


def test_intervals_agree_with_scipy_bootstrap(intervals):
    labels, probabilities = scores()
    predicted = probabilities.argmax(axis=1)
    names = ("macro_f1", "cohen_kappa", "log_loss")

    def compute(rows: np.ndarray) -> list:
        return [
            sklearn.metrics.f1_score(labels[rows], predicted[rows], average="macro"),
            sklearn.metrics.cohen_kappa_score(labels[rows], predicted[rows]),
            sklearn.metrics.log_loss(labels[rows], probabilities[rows], labels=range(7)),
        ]

    theirs = stats.bootstrap(
        (np.arange(len(labels)),), compute, n_resamples=200, vectorized=False, method="percentile", random_state=1
    ).confidence_interval
    for name, low, high in zip(names, theirs.low, theirs.high):
        assert intervals[name] == pytest.approx([low, high], abs=0.25 * (high - low))


def test_intervals_of_many_examples_are_those_of_few(intervals, monkeypatch):
    monkeypatch.setattr(bootstrap, "MAX_CHUNKED", 500)
    found = bootstrap.intervals(*scores())
    for name, (low, high) in intervals.items():
        changed = name in bootstrap.LOSSES  # by other draws
        assert (found[name] != [low, high]) == changed
        assert found[name] == pytest.approx([low, high], abs=0.1 * (high - low))


def test_intervals_are_deterministic(intervals):
    assert bootstrap.intervals(*scores()) == intervals


def test_balanced_accuracy_interval_ignores_missing_classes():
    labels, probabilities = np.array([0, 0, 1, 1]), np.eye(7)[[0, 0, 1, 1]]
    assert bootstrap.intervals(labels, probabilities)["balanced_accuracy"] == [1.0, 1.0]


def test_kappa_interval_is_none_when_undefined():
    assert bootstrap.intervals(np.zeros(3, int), np.eye(7)[[0, 0, 0]])["cohen_kappa"] is None
