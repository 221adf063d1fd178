"""Intervals by resampling."""

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats

from fer.evaluation.metrics import bootstrap, metrics

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "cohen_kappa", "matthews", "log_loss", "brier")


def scores(count: int = 600, seed: int = 0) -> tuple:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(7, 0.4), count)
    right = random.random(count) < 0.6
    return np.where(right, probabilities.argmax(axis=1), random.integers(0, 7, count)), probabilities


@pytest.fixture(scope="module")
def found() -> dict:
    return bootstrap.intervals(*scores())


@pytest.mark.parametrize("count", [600, 3589])
def test_wilson_and_bootstrap_agree_on_the_accuracy(count):
    labels, probabilities = scores(count)
    wilson = metrics.measure(labels, probabilities)["accuracy_ci95"]
    np.testing.assert_allclose(bootstrap.intervals(labels, probabilities)["accuracy"], wilson, atol=0.0035)


@pytest.mark.parametrize("name", NAMES)
def test_intervals_contain_the_point_estimate(found, name):
    low, high = found[name]
    assert low < metrics.measure(*scores())[name] < high


def test_scipys_bootstrap_of_the_examples_gives_nearly_the_same(found):
    labels, probabilities = scores()
    predicted = probabilities.argmax(axis=1)
    names = ("macro_f1", "cohen_kappa", "log_loss")

    def figures(rows: np.ndarray) -> list:
        return [
            sklearn.metrics.f1_score(labels[rows], predicted[rows], average="macro"),
            sklearn.metrics.cohen_kappa_score(labels[rows], predicted[rows]),
            sklearn.metrics.log_loss(labels[rows], probabilities[rows], labels=range(7)),
        ]

    theirs = stats.bootstrap(
        (np.arange(len(labels)),), figures, n_resamples=200, vectorized=False, method="percentile", random_state=1
    ).confidence_interval
    for name, low, high in zip(names, theirs.low, theirs.high):
        assert found[name] == pytest.approx([low, high], abs=0.25 * (high - low))


def test_figures_from_confusion_matrix_match_reported_metrics():
    """The resampled figures are computed by our own formulas; on one matrix they are scikit-learn's."""
    labels, probabilities = scores(200)
    measured = metrics.measure(labels, probabilities)
    ours = bootstrap._of_matrices(np.array([measured["confusion_matrix"]]))
    assert {name: values[0] for name, values in ours.items()} == pytest.approx({name: measured[name] for name in ours})


def test_intervals_are_reproducible(found):
    assert bootstrap.intervals(*scores()) == found


def test_balanced_accuracy_leaves_out_missing_class():
    labels, probabilities = np.array([0, 0, 1, 1]), np.eye(7)[[0, 0, 1, 1]]
    assert bootstrap.intervals(labels, probabilities)["balanced_accuracy"] == [1.0, 1.0]


def test_kappa_without_a_value_is_none():
    assert bootstrap.intervals(np.zeros(3, int), np.eye(7)[[0, 0, 0]])["cohen_kappa"] is None
