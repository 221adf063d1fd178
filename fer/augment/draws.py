"""Random numbers for a batch, drawn without any state.

The numbers of a whole global batch follow from the step's seed, and each example takes those of its position.
So an example is changed alike on one replica and on eight, and a resumed run goes on as if never stopped. A few
numbers an image for examples that live on other replicas cost nothing that can be measured.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from fer import rng


class Draws(NamedTuple):
    """Where random numbers come from."""

    seed: tf.Tensor  # [2] int32: of the experiment and the step
    positions: tf.Tensor  # [B] int32: of each example in the global batch
    global_batch: int

    def fold_in(self, salt: int) -> Draws:
        """Other draws for the same examples: each operation of a policy has its own salt."""
        return self._replace(seed=rng.fold_in(self.seed, salt))

    def uniform(self, count: int) -> tf.Tensor:
        """[B, count] float32 in [0, 1)."""
        drawn = tf.random.stateless_uniform([self.global_batch, count], self.seed, alg=rng.ALGORITHM)
        return tf.gather(drawn, self.positions)
