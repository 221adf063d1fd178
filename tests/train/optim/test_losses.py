"""Checks losses and class weights against NumPy in double precision."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Data, Train
from fer.labels import CLASSES
from fer.train.optim import losses
from fer.train.optim.losses import compute_class_weights


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=3, size=[6, 7]).astype(np.float32)


@pytest.fixture
def targets() -> np.ndarray:
    mixed = np.random.default_rng(1).dirichlet(np.ones(7), size=3)
    return np.concatenate([np.eye(7)[[0, 3, 6]], mixed]).astype(np.float32)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    exact = logits.astype(np.float64)
    return exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))


def test_smooth_labels_spreads_share_over_all_classes():
    smoothed = losses.smooth_labels(tf.constant([[0.0, 1.0, 0.0, 0.0]]), 0.2)
    np.testing.assert_allclose(smoothed, [[0.05, 0.85, 0.05, 0.05]], rtol=1e-6)


def test_example_losses_use_smoothed_targets(logits, targets):
    found = losses.example_losses(tf.constant(targets), tf.constant(logits), Train(label_smoothing=0.1))
    expected = -((0.9 * targets + 0.1 / 7) * log_softmax(logits)).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_follows_its_formula(logits, targets, gamma):
    found = losses.focal_loss(tf.constant(targets), tf.constant(logits), gamma)
    log_probabilities = log_softmax(logits)
    expected = -(targets * (1 - np.exp(log_probabilities)) ** gamma * log_probabilities).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_focal_loss_equals_cross_entropy_when_gamma_is_zero(logits, targets):
    settings = {"label_smoothing": 0.0}
    plain = losses.example_losses(tf.constant(targets), tf.constant(logits), Train(**settings))
    focal = losses.example_losses(
        tf.constant(targets), tf.constant(logits), Train(loss="focal", focal_gamma=0.0, **settings)
    )
    np.testing.assert_allclose(focal, plain, rtol=1e-5)


def test_focal_loss_gradient_is_finite_when_prediction_is_certain():
    logits = tf.Variable([[200.0, 0, 0, 0, 0, 0, 0]])
    with tf.GradientTape() as tape:
        loss = losses.focal_loss(tf.eye(7)[:1], logits, 0.5)
    assert np.isfinite(tape.gradient(loss, logits)).all()


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_example_losses_multiply_by_mean_class_weight_of_target(logits, targets, loss):
    weights = np.arange(1, 8, dtype=np.float32)
    train = Train(loss=loss)
    weighted = losses.example_losses(tf.constant(targets), tf.constant(logits), train, weights)
    plain = losses.example_losses(tf.constant(targets), tf.constant(logits), train)
    np.testing.assert_allclose(weighted, plain.numpy() * (targets @ weights), rtol=1e-5)


COUNTS = dict(zip(CLASSES, [3995, 436, 4097, 7215, 4830, 3171, 4965]))
EXAMPLES = np.array(list(COUNTS.values()))


def test_class_weights_inverse_matches_scikit_learn_balanced():
    expected = EXAMPLES.sum() / (7 * EXAMPLES)
    np.testing.assert_allclose(compute_class_weights(COUNTS, Data(class_weights="inverse")), expected, rtol=1e-6)


def test_class_weights_effective_follows_formula_of_paper():
    found = compute_class_weights(COUNTS, Data(class_weights="effective", class_balanced_beta=0.999))
    # Cui et al. 2019, arXiv:1901.05555, equation 1, as a sum.
    expected = 1 / np.array([sum(0.999**power for power in range(count)) for count in EXAMPLES])
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-5)


@pytest.mark.parametrize(("beta", "equivalent"), [(0.0, "none"), (1 - 1e-9, "inverse")])
def test_effective_beta_interpolates_from_equal_to_inverse_weights(beta, equivalent):
    found = compute_class_weights(COUNTS, Data(class_weights="effective", class_balanced_beta=beta))
    np.testing.assert_allclose(found, compute_class_weights(COUNTS, Data(class_weights=equivalent)), rtol=1e-4)


@pytest.mark.parametrize("kind", ["none", "inverse", "effective"])
def test_class_weights_average_one_over_the_examples(kind):
    assert compute_class_weights(COUNTS, Data(class_weights=kind)) @ EXAMPLES == pytest.approx(EXAMPLES.sum(), rel=1e-5)


def test_class_weights_are_zero_for_class_without_examples():
    found = compute_class_weights({**COUNTS, "disgust": 0}, Data(class_weights="inverse"))
    assert found[CLASSES.index("disgust")] == 0
    assert np.isfinite(found).all()
