"""The temperature is the one that makes confidence honest, and changes nothing else."""

import numpy as np
import pytest
from scipy import special

from fer.evaluation.metrics import calibration, metrics


@pytest.fixture
def drawn() -> tuple:
    """Labels drawn from the very probabilities that logits say: a model whose temperature is 1."""
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(20_000, 7))
    labels = (special.softmax(logits, axis=1).cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    return labels, logits


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_fit_temperature_finds_the_overconfidence_factor(drawn, temperature):
    labels, logits = drawn
    overconfident = special.softmax(logits * temperature, axis=1)
    assert calibration.fit_temperature(labels, overconfident) == pytest.approx(temperature, rel=0.03)


def test_fit_temperature_minimizes_log_loss(drawn):
    labels, logits = drawn
    probabilities = special.softmax(3 * logits, axis=1)
    found = calibration.fit_temperature(labels, probabilities)

    def log_loss(temperature: float) -> float:
        return metrics.measure(labels, calibration.scale(probabilities, temperature))["log_loss"]

    assert log_loss(found) < min(log_loss(found * 0.99), log_loss(found * 1.01))


def test_scaling_divides_the_logits(drawn):
    _, logits = drawn
    scaled = calibration.scale(special.softmax(logits, axis=1), 1.7)
    np.testing.assert_allclose(scaled, special.softmax(logits / 1.7, axis=1), atol=1e-12)


def test_scale_keeps_the_predicted_class(drawn):
    _, logits = drawn
    scaled = calibration.scale(special.softmax(logits, axis=1), 3.0)
    np.testing.assert_array_equal(scaled.argmax(axis=1), logits.argmax(axis=1))


def test_probabilities_of_zero_stay_finite():
    certain = np.eye(7)[[0, 1, 2]]
    temperature = calibration.fit_temperature(np.array([0, 1, 3]), certain)
    assert np.isfinite(calibration.scale(certain, temperature)).all()


def test_calibration_report_fits_temperature_on_validation_only(drawn):
    labels, logits = drawn
    validation = (labels[:5000], special.softmax(2 * logits[:5000], axis=1))
    scored = special.softmax(logits[5000:], axis=1)  # honest already: fitted on itself, it would be 1
    found = calibration.calibration_report(labels[5000:], scored, validation)
    assert found["temperature"] == calibration.fit_temperature(*validation) == pytest.approx(2, rel=0.05)
    assert (found["fitted_on"], found["examples"]) == ("validation", 5000)


def test_calibration_report_measures_at_the_fitted_temperature(drawn):
    labels, logits = drawn
    probabilities = special.softmax(2 * logits, axis=1)
    found = calibration.calibration_report(labels, probabilities, (labels, probabilities))
    honest = metrics.measure(labels, special.softmax(logits, axis=1))
    for name in ("log_loss", "brier", "ece"):
        assert found[name] == pytest.approx(honest[name], abs=0.003)
