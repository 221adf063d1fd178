"""Loss functions, per example, in float32, and the weights of the classes in them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from fer.config import Data, Train


def smooth_labels(targets: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Smooths labels: spreads a share of the probability evenly (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Args:
      targets: [B, classes] float32, rows that sum to 1.
      smoothing: the share, in [0, 1).
    """
    return targets * (1 - smoothing) + smoothing / targets.shape[-1]


def focal_loss(targets: tf.Tensor, logits: tf.Tensor, gamma: float) -> tf.Tensor:
    """Computes the focal loss, which weighs well classified examples less (Lin et al. 2017, arXiv:1708.02002, eq. 4).

    For soft targets t this is the sum over classes of -t (1 - p)^gamma log p. For one-hot targets it equals the
    paper's.

    Args:
      targets: [B, classes] float32, rows that sum to 1.
      logits: [B, classes] float32.
      gamma: 0 gives cross-entropy.

    Returns:
      [B] float32.
    """
    log_probabilities = tf.nn.log_softmax(logits)
    # The gradient of x^gamma at 0 is infinite for gamma < 1; the lower bound keeps it finite if p is 1.
    complement = tf.maximum(1 - tf.exp(log_probabilities), 1e-7)
    return -tf.reduce_sum(targets * complement**gamma * log_probabilities, axis=-1)


def example_losses(targets: tf.Tensor, logits: tf.Tensor, train: Train, weights: np.ndarray | None = None) -> tf.Tensor:
    """Computes the loss of each example that the config names.

    Args:
      targets: [B, classes] float32, rows that sum to 1, not yet smoothed.
      logits: [B, classes] float32.
      train: the loss, label smoothing and gamma.
      weights: float32 [classes], the factor of each class; a mixed target has the mean of its classes' factors.

    Returns:
      [B] float32.
    """
    factors = tf.ones([]) if weights is None else tf.linalg.matvec(targets, tf.constant(weights))
    targets = smooth_labels(targets, train.label_smoothing)
    if train.loss == "focal":
        return factors * focal_loss(targets, logits, train.focal_gamma)
    return factors * tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def compute_class_weights(counts: Mapping[str, int], settings: Data) -> np.ndarray:
    """Computes the weight of each class; its mean over the examples is 1, so that the scale of the loss is unchanged.

    "inverse" gives a class of n examples the weight 1 / n. "effective" gives it the weight 1 / E(n), where
    E(n) = (1 - beta**n) / (1 - beta) is its effective number of examples (Cui et al. 2019, arXiv:1901.05555,
    equation 2). The paper normalizes differently: its weights sum to the number of classes.

    Args:
      counts: examples by class in label order, as in class_counts of the manifest; one without examples gets
        weight 0.
      settings: the kind of weights, and beta.

    Returns:
      float32 [C], in the order of the labels.
    """
    examples = np.array(list(counts.values()), np.float64)
    present = examples > 0
    numbers = np.where(present, examples, 1)
    if settings.class_weights == "none":
        return np.ones(len(counts), np.float32)
    if settings.class_weights == "effective":
        numbers = (1 - settings.class_balanced_beta**numbers) / (1 - settings.class_balanced_beta)
    weights = present / numbers
    return (weights * examples.sum() / (weights * examples).sum()).astype(np.float32)
