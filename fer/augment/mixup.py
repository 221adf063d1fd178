"""Mixup and CutMix: mix each image with another of its batch, and their targets in the same proportion.

The partner of an image is the one at the mirrored position in the batch of its replica; because batches are shuffled,
it is a random one. Mixing is therefore the one augmentation that depends on the division of a global batch over
replicas.
"""

from __future__ import annotations

from fer.augment import xla_support
from fer.augment.random_erasing import rectangle_mask
from fer.augment.registry import register_op
from fer.lazy_modules import tf
from fer.rng import BatchRng

ALPHA = (0.05, 100)  # below, the gammas of the Beta distribution underflow in float32


@register_op("mixup", kind="mix", alpha=ALPHA)
def mixup(images: tf.Tensor, rng: BatchRng, alpha: float = 0.2) -> tf.Tensor:
    """Draws each image's own weight under mixup (Zhang et al. 2018, arXiv:1710.09412).

    Args:
      images: [B, H, W, 1] uint8.
      alpha: the weight is drawn from Beta(alpha, alpha).

    Returns:
      [B, 1, 1, 1] float32 in [0, 1]; the partner's weight is the rest.
    """
    return _draw_beta(rng, alpha)[:, tf.newaxis, tf.newaxis, tf.newaxis]


@register_op("cutmix", kind="mix", alpha=ALPHA)
def cutmix(images: tf.Tensor, rng: BatchRng, alpha: float = 1.0) -> tf.Tensor:
    """Draws each pixel's own weight under CutMix (Yun et al. 2019, arXiv:1905.04899).

    A rectangle comes from the partner. The fraction of the image outside of it is drawn from Beta(alpha, alpha), its
    centre uniformly; at the border the rectangle is clipped.

    Args:
      images: [B, H, W, 1] uint8.
      alpha: of the Beta distribution.

    Returns:
      [B, H, W, 1] float32: 0 within the rectangle, 1 elsewhere.
    """
    height, width = images.shape[1:3]
    side = tf.sqrt(1 - _draw_beta(rng.fold_in(1), alpha))
    down, right = tf.unstack(rng.fold_in(2).uniform(2), axis=-1)
    tall, wide = side * height, side * width
    theirs = rectangle_mask(height, width, down * height - tall / 2, right * width - wide / 2, tall, wide)
    return 1 - tf.cast(theirs, tf.float32)


@xla_support.xla_compiled
def mix(images: tf.Tensor, targets: tf.Tensor, keep: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes images and targets.

    Args:
      images: [B, H, W, 1] uint8.
      targets: [B, classes] float32.
      keep: [B, H, W, 1] or [B, 1, 1, 1] float32: the own weight of each pixel.

    Returns:
      Images uint8 and targets float32; the own weight of a target is the mean of those of the pixels.
    """
    own, partner = tf.cast(images, tf.float32), tf.cast(tf.reverse(images, [0]), tf.float32)
    mixed = xla_support.to_uint8(partner + keep * (own - partner))
    share = tf.reduce_mean(keep, axis=[1, 2])
    return mixed, share * targets + (1 - share) * tf.reverse(targets, [0])


def _draw_beta(rng: BatchRng, alpha: float) -> tf.Tensor:
    """Draws [B] float32 from Beta(alpha, alpha), as a ratio of gammas.

    For small alpha both gammas can underflow; the result is then 1.
    """
    one, other = tf.unstack(rng.gamma(alpha, 2), axis=-1)
    return tf.where(one + other > 1e-30, one / tf.maximum(one + other, 1e-30), 1.0)
