"""Steps as the host asks for them: one by one, or several in one call."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from fer.data.sampling import Batch
from fer.train.device_iterator import DeviceIterator
from fer.train.train_step import StepMetrics


def make_multi_step(
    feed: DeviceIterator, step: Callable[[Batch], StepMetrics], most: int
) -> Callable[[int], StepMetrics]:
    """The function that makes some steps, each on the feed's next batch, and returns what they told.

    Several run as one loop on the device, with the same bits as one by one: the host is asked once instead of for
    each batch and each step. Its count is no part of what is compiled, so that any end can be met exactly.

    Args:
      feed: where batches come from.
      step: of `fer.train.train_step.make_train_step`.
      most: steps that will be asked for at once; 1 leaves the loop out.

    Returns:
      From a count of 1 to `most` to a `StepMetrics` of that many float32 [count]; of scalars if `most` is 1.
    """
    if most == 1:
        return lambda count: step(next(feed))

    @tf.function(autograph=False)
    def several(count: tf.Tensor) -> tuple[StepMetrics, tf.Tensor]:
        def body(number: tf.Tensor, told: StepMetrics, waited: tf.Tensor) -> tuple[tf.Tensor, StepMetrics, tf.Tensor]:
            batch, wait = feed.timed()
            written = StepMetrics(*(array.write(number, value) for array, value in zip(told, step(batch))))
            return number + 1, written, waited + wait

        told = StepMetrics(*(tf.TensorArray(tf.float32, count, element_shape=[]) for _ in StepMetrics._fields))
        start = (tf.constant(0), told, tf.zeros([], tf.float64))
        _, told, waited = tf.while_loop(lambda number, *_: number < count, body, start, parallel_iterations=1)
        return StepMetrics(*(array.stack() for array in told)), waited

    def call(count: int) -> StepMetrics:
        with feed.reading():
            told, waited = several(tf.constant(count))
        feed.count(waited)
        return told

    return call
