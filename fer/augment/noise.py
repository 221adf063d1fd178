"""Gaussian noise, as of a camera in poor light."""

from __future__ import annotations

import math

from fer.augment import xla_support
from fer.augment.registry import register_op
from fer.lazy_modules import tf
from fer.rng import BatchRng


@register_op("noise", kind="pixel", std=(0, 64), p=(0, 1))
def noise(images: tf.Tensor, rng: BatchRng, std: float = 16.0, p: float = 0.5) -> tf.Tensor:
    """Adds Gaussian noise, independent for each pixel.

    Args:
      images: [B, H, W, 1] uint8.
      std: grey levels; the standard deviation of an image is uniform between 0 and this.
      p: probability for each image.

    Returns:
      [B, H, W, 1] uint8, clipped to 0 to 255.
    """
    chance, share = tf.unstack(rng.uniform(2), axis=-1)
    deviation = tf.where(chance < p, std * share, 0.0)
    return _add(images, deviation, rng.fold_in(0).uniform(*images.shape[1:]))


@xla_support.xla_compiled
def _add(images: tf.Tensor, deviation: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    # The inverse of the normal distribution function, vectorized by XLA; TensorFlow draws normal numbers one by one.
    normal = math.sqrt(2) * tf.math.erfinv(2 * uniform - 1 + 2.0**-24)
    added = xla_support.rounded(normal * deviation[:, tf.newaxis, tf.newaxis, tf.newaxis])
    return xla_support.to_uint8(tf.clip_by_value(tf.cast(images, tf.float32) + added, 0.0, 255.0))
