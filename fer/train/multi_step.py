"""Several training steps in one call of the device (Keras: `steps_per_execution`)."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from fer.data.sampling import Batch
from fer.train.device_iterator import DeviceIterator
from fer.train.train_step import StepMetrics


def make_multi_step(
    iterator: DeviceIterator, step: Callable[[Batch], StepMetrics], max_steps: int
) -> Callable[[int], StepMetrics]:
    """Returns the function that makes a number of steps, each on the iterator's next batch.

    Several steps run as one loop on the device, with bit for bit the results of single steps: the host makes one call
    instead of one for each batch and each step. The number of steps is an argument of the compiled function, so that
    a call can end at any step.

    Args:
      iterator: yields the batches.
      step: from `make_train_step`.
      max_steps: the largest number of steps in one call; 1 leaves the loop out.

    Returns:
      A function of the number of steps, 1 to `max_steps`. It returns the `StepMetrics` of these steps, float32
      [steps], or scalars if `max_steps` is 1.
    """
    if max_steps == 1:
        return lambda count: step(next(iterator))

    @tf.function(autograph=False)
    def run_steps(count: tf.Tensor) -> tuple[StepMetrics, tf.Tensor]:
        def body(number: tf.Tensor, metrics: StepMetrics, waited: tf.Tensor) -> tuple:
            batch, wait = iterator.timed_next()
            written = StepMetrics(*(array.write(number, value) for array, value in zip(metrics, step(batch))))
            return number + 1, written, waited + wait

        metrics = StepMetrics(*(tf.TensorArray(tf.float32, count, element_shape=[]) for _ in StepMetrics._fields))
        start = (tf.constant(0), metrics, tf.zeros([], tf.float64))
        _, metrics, waited = tf.while_loop(lambda number, *_: number < count, body, start, parallel_iterations=1)
        return StepMetrics(*(array.stack() for array in metrics)), waited

    def multi_step(count: int) -> StepMetrics:
        with iterator.input_errors():
            metrics, waited = run_steps(tf.constant(count))
        iterator.add_wait(waited)
        return metrics

    return multi_step
