"""Mixing: each image with another of its batch, and their targets in the same proportion.

An image's partner is the one at the mirrored place of its replica's batch, which a shuffled batch makes a random one.
So mixing is the one augmentation that depends on how a global batch is divided over replicas.
"""

from __future__ import annotations

import tensorflow as tf

from fer.augment import xla_support
from fer.augment.random_erasing import rectangle
from fer.rng import BatchRng


def mixup(images: tf.Tensor, rng: BatchRng, alpha: float = 0.2) -> tf.Tensor:
    """How much of itself each pixel keeps under mixup (Zhang et al. 2018, arXiv:1710.09412).

    Args:
      images: [B, H, W, 1] uint8.
      rng: see `BatchRng`.
      alpha: the share is drawn from Beta(alpha, alpha).

    Returns:
      [B, 1, 1, 1] float32: one share an image, between 0 and 1.
    """
    return _beta(rng, alpha)[:, tf.newaxis, tf.newaxis, tf.newaxis]


def cutmix(images: tf.Tensor, rng: BatchRng, alpha: float = 1.0) -> tf.Tensor:
    """As `mixup`, but a rectangle is the partner's whole and the rest its own (Yun et al. 2019, arXiv:1905.04899).

    The rectangle's share of the image is drawn from Beta(alpha, alpha), its centre uniformly; at the border it is cut.
    """
    height, width = images.shape[1:3]
    side = tf.sqrt(1 - _beta(rng.fold_in(1), alpha))
    down, right = tf.unstack(rng.fold_in(2).uniform(2), axis=-1)
    tall, wide = side * height, side * width
    theirs = rectangle(height, width, down * height - tall / 2, right * width - wide / 2, tall, wide)
    return 1 - tf.cast(theirs, tf.float32)


@xla_support.xla_on_cpu
def mix(images: tf.Tensor, targets: tf.Tensor, keep: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes images and targets.

    Args:
      images: [B, H, W, 1] uint8.
      targets: [B, classes] float32.
      keep: [B, H, W, 1] float32, or [B, 1, 1, 1]: how much of itself each pixel keeps.

    Returns:
      Images uint8 and targets float32; an image's target keeps the mean of what its pixels keep.
    """
    own, partner = tf.cast(images, tf.float32), tf.cast(tf.reverse(images, [0]), tf.float32)
    mixed = tf.cast(tf.round(partner + keep * (own - partner)), images.dtype)
    share = tf.reduce_mean(keep, axis=[1, 2])
    return mixed, share * targets + (1 - share) * tf.reverse(targets, [0])


def _beta(rng: BatchRng, alpha: float) -> tf.Tensor:
    """[B] float32 from Beta(alpha, alpha), as a ratio of gammas.

    `tf.random.stateless_gamma`, since the stateful op has a kernel for the CPU alone. For small alpha both gammas
    can be too small for a quotient; such a draw is an image that keeps itself.
    """
    gammas = tf.random.stateless_gamma([rng.global_batch, 2], rng.seed, alpha=alpha)
    one, other = tf.unstack(tf.gather(gammas, rng.positions), axis=-1)
    return tf.where(one + other > 1e-30, one / tf.maximum(one + other, 1e-30), 1.0)
