"""The batches of a run, on the devices when they are asked for, and how long the host waited for them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence

import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

from fer.config import Experiment
from fer.data import pipeline
from fer.data.pipeline import Source
from fer.data.sampling import Batch
from fer.errors import UserError
from fer.io import files

PREFETCH_PER_REPLICA = 2  # batches a replica that are copied to its device ahead of their step


def build_dataset(
    source: Source, experiment: Experiment, start: int, stop: int, replicas: int, local: Sequence[int]
) -> tf.data.Dataset:
    """The batches that an experiment trains on; see `fer.data.pipeline.training_batches`."""
    return pipeline.training_batches(
        source,
        experiment.seed,
        experiment.train.global_batch,
        start,
        stop,
        replicas,
        local,
        experiment.data.sampling,
        experiment.train.targets != "fer",
    )


def disable_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without the thread that tunes it.

    There is nothing to tune, since no stage leaves its size to TensorFlow; but whoever drops the iterator waits for
    that thread, which may miss that it is to end and sleeps for as long as a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def iterate(distributed: tf.distribute.DistributedDataset) -> Iterator:
    """An iterator over a distributed dataset that has no such thread for any device either.

    TensorFlow makes a dataset for each device, which copies batches there, and hands on to it no option of ours.
    """
    create = multi_device_iterator_ops._create_device_dataset
    multi_device_iterator_ops._create_device_dataset = lambda *arguments: disable_autotune(create(*arguments))
    try:
        return iter(distributed)
    finally:
        multi_device_iterator_ops._create_device_dataset = create


class DeviceIterator:
    """An iterator over a run's batches from a step on, each replica its share.

    Batches come to the host (`next`) or, inside a compiled function, straight to the steps there (`timed`).
    """

    def __init__(self, strategy: tf.distribute.Strategy, source: Source, experiment: Experiment, start: int, stop: int):
        replicas = strategy.num_replicas_in_sync

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            share = replicas // context.num_input_pipelines
            local = range(context.input_pipeline_id * share, (context.input_pipeline_id + 1) * share)
            return disable_autotune(build_dataset(source, experiment, start, stop, replicas, local))

        options = tf.distribute.InputOptions(experimental_per_replica_buffer_size=PREFETCH_PER_REPLICA)
        self._iterator = iterate(strategy.distribute_datasets_from_function(of_worker, options))
        # Compiled, asking costs a fraction of what it costs eagerly, where each replica is asked from Python.
        self._take = tf.function(lambda: next(self._iterator), autograph=False)
        self._waited = 0.0
        self._counted: list[tf.Tensor] = []

    @property
    def waited(self) -> float:
        """The time spent in asking for batches, in seconds.

        On a GPU the host runs ahead of the device, so it is an upper bound of what the device stood still for; on a
        CPU, where reading and computing share the cores, it leaves out what reading takes from the computing.
        """
        self._waited += sum(float(seconds) for seconds in self._counted)
        self._counted.clear()
        return self._waited

    def __next__(self) -> Batch:
        """The next batch of every replica.

        Raises:
          StopIteration: there is none.
          UserError: the shards can be read no longer, or are no longer those that were checked.
        """
        started = time.perf_counter()
        try:
            with self.reading():
                return self._take()
        except tf.errors.OutOfRangeError as error:
            raise StopIteration from error
        finally:
            self._waited += time.perf_counter() - started

    def timed(self) -> tuple[Batch, tf.Tensor]:
        """Within a compiled function: the next batch, and the seconds that it took to come, float64."""
        asked = _read_clock()
        with tf.control_dependencies([asked]):
            batch = next(self._iterator)
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            return batch, _read_clock() - asked

    def count(self, seconds: tf.Tensor) -> None:
        """Adds what `timed` told, once somebody wants to know: until then nobody waits for the device."""
        self._counted.append(seconds)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Within it, an error of the input becomes a sentence; others, such as the steps', stay what they are."""
        try:
            yield
        except tf.errors.OutOfRangeError:
            raise
        except tf.errors.OpError as error:
            if "GetNext" not in str(error):  # the operation that asks the input
                raise
            raise UserError(
                f"The training data can no longer be read ({_describe_cause(error)}): see that the folder of shards is "
                "whole, and run the same command again."
            ) from error


def _read_clock() -> tf.Tensor:
    """The host's clock as an operation; TensorFlow's own is refused where operations are to be deterministic."""
    return tf.ensure_shape(tf.numpy_function(time.perf_counter, [], tf.float64), [])


def _describe_cause(error: tf.errors.OpError) -> str:
    """What went wrong, without the graph around it: the line above the first operation that TensorFlow names."""
    lines = (error.message or "").splitlines()
    named = next((place for place, line in enumerate(lines) if "[[" in line), 0)
    return re.sub(r"\{\{.*?\}\}", "", lines[named - 1]).strip() if named else files.error_message(error)
