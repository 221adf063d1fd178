"""Sharpness of a batch: one smoothing for all images, and for each its own mixture of sharp and smooth."""

from __future__ import annotations

import tensorflow as tf

# Pillow's ImageFilter.SMOOTH, on which its ImageEnhance.Sharpness rests.
SMOOTH = ((1, 1, 1), (1, 5, 1), (1, 1, 1))


def adjust(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """smooth + factor (image - smooth), which is one 3x3 kernel an image: SMOOTH / 13 at 0, nothing changes at 1.

    Args:
      images: [B, H, W, 1] uint8. Pixels at the border stay as they are, as in Pillow.
      factor: [B] float32: below 1 blurs, above 1 sharpens.

    Returns:
      [B, H, W, 1] uint8.
    """
    pixels = tf.cast(images, tf.float32)
    kernel = tf.constant(SMOOTH, tf.float32)[:, :, tf.newaxis, tf.newaxis]
    smooth = tf.nn.conv2d(pixels, kernel / tf.reduce_sum(kernel), strides=1, padding="VALID")
    change = smooth - pixels[:, 1:-1, 1:-1]
    change = tf.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]]) * (1 - factor)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.cast(tf.round(tf.clip_by_value(pixels + change, 0.0, 255.0)), images.dtype)
