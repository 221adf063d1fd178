"""Stateless random numbers: seeds are pairs of int32, derived by salts and computed on the host.

TensorFlow's random ops read their seed on the host. A seed computed on a GPU would have to be copied from there at
every random op, and the host would wait each time until the GPU has finished all work queued before.
"""

from __future__ import annotations

import contextlib
import re
from typing import NamedTuple

from fer.lazy_modules import tf

# TensorFlow chooses the algorithm by the device unless one is given. Compiled by XLA, the numbers still differ.
ALGORITHM, ALGORITHM_NUMBER = "philox", 1  # the number is that of `tf.random.Algorithm`
SMALLEST_NORMAL = 2.0**-126  # of float32
HOST = "CPU:0"
SCOPE = "seeds"  # name scope of the ops that compute seeds; TensorFlow numbers its repetitions


class BatchRng(NamedTuple):
    """Random numbers for the examples of a batch, as a function of (seed, position in the global batch).

    The numbers of the whole global batch are drawn, and each example takes those of its position. So an example is
    changed alike on one replica and on eight, and a resumed run continues as if it had never stopped. Drawing a few
    numbers an image for examples of other replicas costs nothing measurable; `noise` draws one for each pixel.
    """

    seed: tf.Tensor  # [2] int32: of the experiment and the step
    positions: tf.Tensor  # [B] int32: of each example in the global batch
    global_batch: int
    graph: tf.Graph | None = None  # draws there: from within a function that XLA compiles, in the graph that calls it

    def fold_in(self, salt: int) -> BatchRng:
        """Returns a generator of other numbers for the same examples, different for each salt."""
        with self._drawing():
            return self._replace(seed=fold_in(self.seed, salt))

    def uniform(self, *shape: int) -> tf.Tensor:
        """Returns [B, *shape] float32 in [0, 1), the numbers of `tf.random.stateless_uniform`.

        That function derives the key and the counter from the seed on the device, in fifteen small kernels of a GPU.
        """
        with self._drawing():
            numbers = tf.raw_ops.StatelessRandomUniformV2(shape=[self.global_batch, *shape], **self._key())
        return tf.gather(numbers, self.positions)

    def gamma(self, alpha: float, *shape: int) -> tf.Tensor:
        """Returns [B, *shape] float32 of the Gamma distribution with the shape `alpha`.

        The numbers are those of `tf.random.stateless_gamma`, which are not below the smallest normal number. The
        stateful op has no GPU kernel.
        """
        with self._drawing():
            numbers = tf.raw_ops.StatelessRandomGammaV3(shape=[self.global_batch, *shape], alpha=alpha, **self._key())
        return tf.maximum(tf.gather(numbers, self.positions), SMALLEST_NORMAL)

    def _key(self) -> dict[str, tf.Tensor]:
        """Returns the arguments of a random op that hold the seed."""
        with tf.device(HOST), tf.name_scope(SCOPE):
            key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=self.seed)
            return {"key": key, "counter": counter, "alg": tf.constant(ALGORITHM_NUMBER)}

    def _drawing(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self.graph is None else self.graph.as_default()


def is_seed_op(name: str) -> bool:
    """Returns whether the op of this name computes a seed."""
    return re.search(rf"(^|/){SCOPE}(_\d+)?/", name) is not None


def fold_in(seed: tf.Tensor, salt: int) -> tf.Tensor:
    """Returns a seed, [2] int32, that differs for each salt."""
    with tf.device(HOST), tf.name_scope(SCOPE):
        return tf.random.experimental.stateless_fold_in(seed, salt, alg=ALGORITHM)


def step_seed(seed: int, step: tf.Variable) -> tf.Tensor:
    """Returns the seed of a training step, [2] int32.

    Args:
      seed: the experiment's.
      step: number of the step, int64, on the host.
    """
    with tf.device(HOST), tf.name_scope(SCOPE):
        return tf.stack([seed, tf.cast(step, tf.int32)])
