"""Tests of `fer.evaluation.metrics.calibration`."""

import numpy as np
import pytest
from scipy import special

from fer.evaluation.metrics import calibration, metrics
from fer.labels import CLASSES


@pytest.fixture
def sample() -> tuple:
    """Returns labels sampled from the softmax of logits, and the logits: a model whose temperature is 1."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(20_000, 7))
    labels = (special.softmax(logits, axis=1).cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    return labels, logits


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_fit_temperature_recovers_known_temperature(sample, temperature):
    labels, logits = sample
    overconfident = special.softmax(logits * temperature, axis=1)
    assert calibration.fit_temperature(labels, overconfident) == pytest.approx(temperature, rel=0.03)


def test_fit_temperature_minimizes_log_loss(sample):
    labels, logits = sample
    probabilities = special.softmax(3 * logits, axis=1)
    optimum = calibration.fit_temperature(labels, probabilities)

    def log_loss(temperature: float) -> float:
        return metrics.compute_metrics(labels, calibration.scale(probabilities, temperature), CLASSES)["log_loss"]

    assert log_loss(optimum) < min(log_loss(optimum * 0.99), log_loss(optimum * 1.01))


def test_scale_divides_logits(sample):
    _, logits = sample
    scaled = calibration.scale(special.softmax(logits, axis=1), 1.7)
    np.testing.assert_allclose(scaled, special.softmax(logits / 1.7, axis=1), atol=1e-12)


def test_scale_preserves_predicted_class(sample):
    _, logits = sample
    scaled = calibration.scale(special.softmax(logits, axis=1), 3.0)
    np.testing.assert_array_equal(scaled.argmax(axis=1), logits.argmax(axis=1))


def test_probabilities_of_zero_stay_finite():
    certain = np.eye(7)[[0, 1, 2]]
    temperature = calibration.fit_temperature(np.array([0, 1, 3]), certain)
    assert np.isfinite(calibration.scale(certain, temperature)).all()


def test_calibration_report_fits_temperature_on_validation_only(sample):
    labels, logits = sample
    validation = (labels[:5000], special.softmax(2 * logits[:5000], axis=1))
    probabilities = special.softmax(logits[5000:], axis=1)  # its own temperature is 1
    report = calibration.calibration_report(labels[5000:], probabilities, validation)
    assert report["temperature"] == calibration.fit_temperature(*validation) == pytest.approx(2, rel=0.05)
    assert (report["fitted_on"], report["examples"]) == ("validation", 5000)


def test_calibration_report_metrics_are_those_at_temperature(sample):
    labels, logits = sample
    probabilities = special.softmax(2 * logits, axis=1)
    report = calibration.calibration_report(labels, probabilities, (labels, probabilities))
    expected = metrics.compute_metrics(labels, special.softmax(logits, axis=1), CLASSES)
    for name in ("log_loss", "brier", "ece"):
        assert report[name] == pytest.approx(expected[name], abs=0.003)
