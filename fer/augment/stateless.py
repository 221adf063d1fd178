"""Augmentation policies as functions of (images, labels, seed), for `Dataset.map` and Keras models: `fer.augmenter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fer.augment import grammar, policy
from fer.errors import UserError
from fer.lazy_modules import tf
from fer.rng import BatchRng


def augmenter(text: str) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Builds the function that a policy describes, on batches of images and labels.

    Args:
      text: the policy; see `fer.augment.policy`.

    Returns:
      A function of (images, labels, seed=None) that returns augmented images and labels, in a graph or eagerly.
      images: uint8 [B, S, S, 1], where S is known when a graph is built. labels: any tensor, returned unchanged; with
      mixup or cutmix float [B, C], which are mixed. seed: an integer or int32 [2], the same seed for the same random
      numbers; None takes it from TensorFlow's global generator (`tf.random.set_seed`), another at each call. The
      function raises a `UserError` for other dtypes and shapes.

    Raises:
      UserError: the policy has a fault, which the message names.
    """
    mixes = grammar.mixes_images(text)
    apply = policy.augmenter(text)

    @tf.autograph.experimental.do_not_convert
    def augment(images: Any, labels: Any, seed: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
        shape = images.shape
        if images.dtype != tf.uint8 or shape.rank != 4 or shape[1] is None or shape[1:] != [shape[1], shape[1], 1]:
            raise UserError(f"images are {_describe(images)}; a policy augments square ones, uint8 [B, S, S, 1].")
        if mixes and not (labels.dtype.is_floating and labels.shape.rank == 2):
            raise UserError(
                f"labels are {_describe(labels)}; the policy {text!r} mixes them, which needs one-hot labels, float "
                "[B, C]: use batches(..., one_hot=True)."
            )
        if mixes and not shape[:1].is_compatible_with(labels.shape[:1]):
            raise UserError(f"labels are {_describe(labels)}, but images are {_describe(images)}.")
        size = shape[0] if shape[0] is not None else tf.shape(images)[0]
        rng = BatchRng(_to_seed(seed), tf.range(size), size)
        if not mixes:
            return apply(images, labels, rng)[0], labels
        mixed_images, mixed = apply(images, tf.cast(labels, tf.float32), rng)
        return mixed_images, tf.cast(mixed, labels.dtype)

    return augment


def _to_seed(seed: Any) -> tf.Tensor:
    """Returns a seed int32 [2].

    Raises:
      UserError: the seed is neither an integer of at most 64 bits nor a pair of integers.
    """
    if seed is None:
        return tf.random.uniform([2], tf.int32.min, tf.int32.max, tf.int32)
    if isinstance(seed, int):
        if not tf.int64.min <= seed <= tf.int64.max:
            raise UserError(f"seed is {seed}; it must fit in 64 bits.")
        seed = tf.constant(seed, tf.int64)
    seed = tf.convert_to_tensor(seed)
    if not seed.dtype.is_integer or seed.shape.as_list() not in ([], [2]):
        raise UserError(f"seed is {_describe(seed)}; it must be an integer or a pair of integers, int32 [2].")
    low = tf.cast(seed, tf.int32)  # the lower 32 bits
    if seed.shape.rank == 1:
        return low
    wide = tf.cast(seed, tf.int64)
    upper = tf.cast((wide - tf.cast(low, tf.int64)) // 2**32, tf.int32)  # 0 for an int32 seed
    return tf.stack([upper, low])


def _describe(tensor: tf.Tensor) -> str:
    """Returns dtype and shape of a tensor, as in "float32 [32, 48, 48]"."""
    return f"{tensor.dtype.name} {'' if tensor.shape.rank is None else tensor.shape.as_list()}".strip()
