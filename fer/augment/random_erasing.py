"""Random erasing: fills a rectangle of each image (Zhong et al. 2020, arXiv:1708.04896)."""

from __future__ import annotations

from fer.augment import xla_support
from fer.augment.registry import register_op
from fer.lazy_modules import tf
from fer.rng import BatchRng

ASPECT = 0.3  # height over width lies between this and its inverse, as in the paper


@register_op("erase", kind="pixel", p=(0, 1), low=(0, 1), high=(0, 1), fill=(0, 255), ascending=("low", "high"))
def erase(
    images: tf.Tensor, rng: BatchRng, p: float = 0.5, low: float = 0.02, high: float = 0.33, fill: float = 128.0
) -> tf.Tensor:
    """Fills a random rectangle with one grey level.

    Args:
      images: [B, H, W, 1] uint8.
      p: probability for each image.
      low, high: bounds of the fraction of the image that is filled, drawn uniformly. Above 0.3 the range of aspect
        ratios is narrower than `ASPECT`, so that the rectangle fits into the image.
      fill: the grey level. One level, not noise: noise would need thousands of random numbers an image.

    Returns:
      [B, H, W, 1] uint8.
    """
    height, width = images.shape[1:3]
    chance, share, shape, top, left = tf.unstack(rng.uniform(5), axis=-1)
    covered = low + (high - low) * share
    area = covered * height * width
    aspect = tf.exp((2 * shape - 1) * tf.minimum(-tf.math.log(ASPECT), -tf.math.log(covered)))
    tall = tf.minimum(tf.sqrt(area * aspect), height)
    wide = tf.minimum(tf.sqrt(area / aspect), width)
    tall = tf.where(chance < p, tall, 0.0)  # a rectangle of height 0 fills nothing
    return _fill_rectangle(images, fill, top * (height - tall), left * (width - wide), tall, wide)


@xla_support.xla_compiled
def _fill_rectangle(
    images: tf.Tensor, fill: float, top: tf.Tensor, left: tf.Tensor, tall: tf.Tensor, wide: tf.Tensor
) -> tf.Tensor:
    covered = rectangle_mask(images.shape[1], images.shape[2], top, left, tall, wide)
    return tf.where(covered, tf.cast(fill, images.dtype), images)


def rectangle_mask(
    height: int, width: int, top: tf.Tensor, left: tf.Tensor, tall: tf.Tensor, wide: tf.Tensor
) -> tf.Tensor:
    """Returns which pixels have their centre within the rectangle of their image.

    Args:
      height, width: of the images, in pixels.
      top, left: [B] float32: position of the rectangle, in pixels.
      tall, wide: [B] float32: its size, in pixels.

    Returns:
      [B, height, width, 1] bool.
    """

    def within(size: int, start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        centres = tf.range(size, dtype=tf.float32) + 0.5
        start, length = start[:, tf.newaxis], length[:, tf.newaxis]
        return (centres >= start) & (centres < start + length)

    rows, columns = within(height, top, tall), within(width, left, wide)
    return (rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :])[..., tf.newaxis]
