"""Tests of `fer.evaluation.metrics.ranking`."""

import subprocess
import sys

import numpy as np
import pytest
import sklearn.metrics

from fer.evaluation.metrics import ranking


@pytest.mark.parametrize("digits", [1, 2, 12])  # the fewer, the more examples share a score
def test_compute_curves_equals_scikit_learn(digits):
    random = np.random.default_rng(digits)
    is_class, scores = random.random(300) < 0.2, np.round(random.random(300), digits)
    curves = ranking.compute_curves(is_class, scores)
    false_positive_rate, recall, _ = sklearn.metrics.roc_curve(is_class, scores, drop_intermediate=False)
    np.testing.assert_allclose(curves.false_positive_rate, false_positive_rate)
    np.testing.assert_allclose(curves.recall, recall)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(is_class, scores)
    np.testing.assert_allclose(curves.precision, precision[::-1])
    np.testing.assert_allclose(curves.recall, recall[::-1])
    assert curves.roc_auc == pytest.approx(sklearn.metrics.roc_auc_score(is_class, scores), abs=1e-12)
    average_precision = sklearn.metrics.average_precision_score(is_class, scores)
    assert curves.average_precision == pytest.approx(average_precision, abs=1e-12)


@pytest.mark.parametrize("share", [0, 1])
def test_compute_curves_returns_none_without_two_kinds_of_examples(share):
    assert ranking.compute_curves(np.full(3, share, bool), np.array([0.1, 0.5, 0.2])) is None


def test_metrics_and_plots_of_an_evaluation_import_neither_scikit_learn_nor_scipy():
    code = (
        "import sys, numpy as np; from fer.evaluation.metrics import calibration, robustness, summary; "
        "from fer.viz import plots; labels, probabilities = np.array([0, 1]), np.array([[0.8, 0.2], [0.4, 0.6]]); "
        "summary.summarize(labels, probabilities, ['a', 'b']); "
        "calibration.calibration_report(labels, probabilities, (labels, probabilities)); "
        "plots.roc_and_precision_recall(labels, probabilities, ['a', 'b'], ''); "
        "print({'sklearn', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")
