"""Sharpness of a batch: one smoothing for all images, and for each its own mixture of sharp and smooth."""

from __future__ import annotations

import tensorflow as tf

from fer.augment import xla_support

CENTRE, SUM = 5, 13  # Pillow's ImageFilter.SMOOTH, on which its ImageEnhance.Sharpness rests: ones about a five


def adjust(images: tf.Tensor, factor: tf.Tensor, xla: bool = False) -> tf.Tensor:
    """Returns smooth + factor (image - smooth), one 3x3 kernel for each image: SMOOTH / 13 at 0, unchanged at 1.

    Args:
      images: [B, H, W, 1] uint8. Pixels at the border stay as they are, as in Pillow.
      factor: [B] float32: below 1 blurs, above 1 sharpens.
      xla: see `device`.

    Returns:
      [B, H, W, 1] uint8.
    """
    return xla_support.apply_where(tf.not_equal(factor, 1.0), images, _adjust, images, factor, xla=xla)


def _adjust(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    pixels = tf.cast(images, tf.float32)
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = pixels[:, 1:-1, 1:-1]
    change = (box + (CENTRE - 1) * inner) / SUM - inner
    change = tf.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]]) * (1 - factor)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return tf.cast(tf.round(tf.clip_by_value(pixels + change, 0.0, 255.0)), images.dtype)
