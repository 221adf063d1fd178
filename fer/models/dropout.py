"""Dropout that is a function of (seed, step, position in the global batch).

Keras' own layer advances a hidden state with every call: a resumed run would use other masks than one that was never
killed, and two replicas others than one. Here the masks of a whole global batch follow from the step's seed, and each
example takes the row of its position.

Outside of the trainer, such as in Keras' own `fit`, the layer draws as `tf.keras.layers.Dropout` does: other masks at
each call, in a sequence that `tf.keras.utils.set_random_seed` fixes.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from fer.rng import BatchRng

_RNG: contextvars.ContextVar[BatchRng | None] = contextvars.ContextVar("dropout_rng", default=None)


@contextlib.contextmanager
def dropout_rng(rng: BatchRng) -> Iterator[None]:
    """Makes `rng` the source of the masks of all models that are called with `training=True` within the context."""
    token = _RNG.set(rng)
    try:
        yield
    finally:
        _RNG.reset(token)


class PositionalDropout(tf.keras.layers.Layer):
    """Sets a fraction of the inputs to zero in training and scales the rest up to keep the mean.

    Args:
      rate: fraction of zeros, in [0, 1).
      salt: distinguishes the layers of one model; layers with equal salts use equal masks.
      noise_shape: as in tf.keras.layers.Dropout: 1 where the values of a mask are shared; the first entry is the batch.
    """

    def __init__(self, rate: float, salt: int, noise_shape: tuple | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate, self.salt, self.noise_shape = rate, salt, noise_shape

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `inputs` [B, ...], with dropout applied if `training`."""
        if not training or self.rate == 0:
            return inputs
        noise_shape = self.noise_shape or (None,) * inputs.shape.rank
        rng = _RNG.get()
        if rng is None:
            sizes = tf.shape(inputs)
            shape = [sizes[axis] if size is None else size for axis, size in enumerate(noise_shape)]
            return tf.nn.dropout(inputs, self.rate, shape)
        shape = [size if size is not None else inputs.shape[axis] for axis, size in enumerate(noise_shape)]
        mask = rng.fold_in(self.salt).uniform(*shape[1:]) >= self.rate
        return inputs * tf.cast(mask, inputs.dtype) / tf.cast(1 - self.rate, inputs.dtype)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "salt": self.salt, "noise_shape": self.noise_shape}
