"""Dropout that is a function of (seed, step, position in the global batch).

Keras' own layer advances a hidden state with every call, so a resumed run would draw other masks than one that
was never killed, and two replicas others than one. Here the masks of a whole global batch follow from the
step's seed, and each example takes the row of its position.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from fer import rng


class Draw(NamedTuple):
    """What the masks of one step follow from."""

    seed: tf.Tensor  # [2] int32
    positions: tf.Tensor  # [B] int32, of each example in the global batch
    global_batch: int


_DRAW: contextvars.ContextVar[Draw | None] = contextvars.ContextVar("draw", default=None)


@contextlib.contextmanager
def dropout_rng(seed: tf.Tensor, positions: tf.Tensor, global_batch: int) -> Iterator[None]:
    """Within it, a model may be called with `training=True`; see `Draw` for the arguments."""
    token = _DRAW.set(Draw(seed, positions, global_batch))
    try:
        yield
    finally:
        _DRAW.reset(token)


class PositionalDropout(tf.keras.layers.Layer):
    """Sets a share of the inputs to zero in training and scales the rest up to keep the mean.

    Args:
      rate: share of zeros, in [0, 1).
      salt: tells the layers of one model apart; equal salts draw equal masks.
      noise_shape: as in tf.keras.layers.Dropout: 1 where a mask's value is shared; its first entry is the batch.
    """

    def __init__(self, rate: float, salt: int, noise_shape: tuple | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate, self.salt, self.noise_shape = rate, salt, noise_shape

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drops inputs in training, by the random numbers of the enclosing `drawn_from`."""
        if not training or self.rate == 0:
            return inputs
        draw = _DRAW.get()
        if draw is None:
            raise RuntimeError("A model with dropout is trained inside fer.models.dropout.dropout_rng only.")
        asked = self.noise_shape or (None,) * inputs.shape.rank
        shape = [size if size is not None else inputs.shape[axis] for axis, size in enumerate(asked)]
        seed = rng.fold_in(draw.seed, self.salt)
        uniform = tf.random.stateless_uniform([draw.global_batch, *shape[1:]], seed, alg=rng.ALGORITHM)
        kept = tf.gather(uniform, draw.positions) >= self.rate
        return inputs * tf.cast(kept, inputs.dtype) / tf.cast(1 - self.rate, inputs.dtype)

    def get_config(self) -> dict:
        """Returns the arguments of the layer."""
        return {**super().get_config(), "rate": self.rate, "salt": self.salt, "noise_shape": self.noise_shape}
