"""What a step minimises, example by example; all of it float32."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fer.config import Train


def smooth_labels(targets: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Moves a share of the probability to all classes alike (Szegedy et al. 2016, arXiv:1512.00567, section 7).

    Args:
      targets: [B, classes] float32, rows that sum to 1.
      smoothing: the share, in [0, 1).
    """
    return targets * (1 - smoothing) + smoothing / targets.shape[-1]


def focal_loss(targets: tf.Tensor, logits: tf.Tensor, gamma: float) -> tf.Tensor:
    """Cross-entropy that counts well classified examples less (Lin et al. 2017, arXiv:1708.02002, equation 4).

    For soft targets t it is the sum over classes of -t (1 - p)^gamma log p, which is the paper's for one-hot ones.

    Args:
      targets: [B, classes] float32, rows that sum to 1.
      logits: [B, classes] float32.
      gamma: 0 gives cross-entropy.

    Returns:
      [B] float32.
    """
    log_probabilities = tf.nn.log_softmax(logits)
    # The gradient of x^gamma at 0 is not finite for gamma below 1; the floor keeps a certain example harmless.
    missing = tf.maximum(1 - tf.exp(log_probabilities), 1e-7)
    return -tf.reduce_sum(targets * missing**gamma * log_probabilities, axis=-1)


def example_losses(targets: tf.Tensor, logits: tf.Tensor, train: Train, weights: np.ndarray | None = None) -> tf.Tensor:
    """The loss of each example, [B] float32, as the config names it.

    Args:
      targets: [B, classes] float32, rows that sum to 1, not yet smoothed.
      logits: [B, classes] float32.
      train: the loss and its strengths.
      weights: float32 [classes], the factor of each class; a mixed target's is the mean of its classes'.
    """
    factors = tf.ones([]) if weights is None else tf.linalg.matvec(targets, tf.constant(weights))
    targets = smooth_labels(targets, train.label_smoothing)
    if train.loss == "focal":
        return factors * focal_loss(targets, logits, train.focal_gamma)
    return factors * tf.nn.softmax_cross_entropy_with_logits(targets, logits)
