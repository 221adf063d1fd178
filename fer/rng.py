"""Seeds of random numbers: pairs of int32, divided by salts, and computed on the host.

TensorFlow's random operations read their seed on the host. A seed computed on a GPU would first have to come from
there: the host would wait until the GPU has done all that it was told to do before, at every single draw.
"""

from __future__ import annotations

import re

import tensorflow as tf

ALGORITHM = "philox"  # by default TensorFlow picks one by the device; compiled by XLA, the numbers still are others
HOST = "CPU:0"
SCOPE = "seeds"  # of the names of the operations that make them; TensorFlow numbers it where there are several


def is_of_seed(operation: str) -> bool:
    """Whether the operation of this name makes a seed."""
    return re.search(rf"(^|/){SCOPE}(_\d+)?/", operation) is not None


def fold_in(seed: tf.Tensor, salt: int) -> tf.Tensor:
    """Another seed, [2] int32, for each salt."""
    with tf.device(HOST), tf.name_scope(SCOPE):
        return tf.random.experimental.stateless_fold_in(seed, salt, alg=ALGORITHM)


def step_seed(seed: int, step: tf.Variable) -> tf.Tensor:
    """The seed of a step, [2] int32.

    Args:
      seed: the experiment's.
      step: the number of the step, int64, on the host.
    """
    with tf.device(HOST), tf.name_scope(SCOPE):
        return tf.stack([seed, tf.cast(step, tf.int32)])
