"""Steps as the host asks for them: one by one, or several in one call."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from fer.data.pipeline import Batch
from fer.train.device_iterator import Feed
from fer.train.train_step import Done


def calls(feed: Feed, step: Callable[[Batch], Done], most: int) -> Callable[[int], Done]:
    """The function that makes some steps, each on the feed's next batch, and returns what they told.

    Several run as one loop on the device, with the same bits as one by one: the host is asked once instead of for
    each batch and each step. Its count is no part of what is compiled, so that any end can be met exactly.

    Args:
      feed: where batches come from.
      step: of `fer.train.train_step.train_step`.
      most: steps that will be asked for at once; 1 leaves the loop out.

    Returns:
      From a count of 1 to `most` to a `Done` of that many float32 [count]; of scalars if `most` is 1.
    """
    if most == 1:
        return lambda count: step(next(feed))

    @tf.function(autograph=False)
    def several(count: tf.Tensor) -> tuple[Done, tf.Tensor]:
        def body(number: tf.Tensor, told: Done, waited: tf.Tensor):
            batch, wait = feed.timed()
            written = Done(*(array.write(number, value) for array, value in zip(told, step(batch))))
            return number + 1, written, waited + wait

        told = Done(*(tf.TensorArray(tf.float32, count, element_shape=[]) for _ in Done._fields))
        start = (tf.constant(0), told, tf.zeros([], tf.float64))
        _, told, waited = tf.while_loop(lambda number, *_: number < count, body, start, parallel_iterations=1)
        return Done(*(array.stack() for array in told)), waited

    def call(count: int) -> Done:
        with feed.reading():
            told, waited = several(tf.constant(count))
        feed.count(waited)
        return told

    return call
