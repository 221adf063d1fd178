"""Iterator over the batches of a run, prefetched to the devices, and the time that the host waits for them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence

import tensorflow as tf

from fer import tf_workarounds
from fer.config import Experiment
from fer.data import pipeline
from fer.data.pipeline import Source
from fer.data.sampling import Batch, BatchSchedule
from fer.errors import StorageError
from fer.io import files

PREFETCH_PER_REPLICA = 2  # batches copied to the device of a replica ahead of their step


def build_dataset(
    source: Source, experiment: Experiment, start: int, stop: int, replicas: int, local: Sequence[int]
) -> tf.data.Dataset:
    """Builds the dataset of the batches of steps `start` to `stop`; see `fer.data.pipeline.training_batches`."""
    schedule = BatchSchedule(experiment.seed, experiment.train.global_batch_size, start, stop, replicas, local)
    votes = experiment.train.label_source != "fer"
    return pipeline.training_batches(source, schedule, experiment.data.sampling, votes)


class DeviceIterator:
    """An iterator over a run's batches from a step on; each replica gets its share.

    Batches are taken by the host (`next`) or inside a compiled function (`timed_next`).
    """

    def __init__(self, strategy: tf.distribute.Strategy, source: Source, experiment: Experiment, start: int, stop: int):
        replicas = strategy.num_replicas_in_sync

        def worker_dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
            share = replicas // context.num_input_pipelines
            local = range(context.input_pipeline_id * share, (context.input_pipeline_id + 1) * share)
            return tf_workarounds.disable_autotune(build_dataset(source, experiment, start, stop, replicas, local))

        options = tf.distribute.InputOptions(experimental_per_replica_buffer_size=PREFETCH_PER_REPLICA)
        self._iterator = tf_workarounds.iterate(strategy.distribute_datasets_from_function(worker_dataset, options))
        # Compiled: in eager mode, Python fetches the share of each replica, which takes several times as long.
        self._next = tf.function(lambda: next(self._iterator), autograph=False)
        self._waited = 0.0
        self._pending: list[tf.Tensor] = []  # waits in seconds, float64, that may not be computed yet

    @property
    def waited(self) -> float:
        """The time spent in waiting for batches, in seconds.

        On a GPU the host runs ahead of the device, so this is an upper bound of the device's idle time. On a CPU,
        reading and computing share the cores, and the time that reading takes from computing is not included.
        """
        self._waited += sum(float(seconds) for seconds in self._pending)
        self._pending.clear()
        return self._waited

    def __next__(self) -> Batch:
        """Returns the next batch of every replica.

        Raises:
          StopIteration: there are no more batches.
          StorageError: the shards can no longer be read, or changed after they were checked.
        """
        started = time.perf_counter()
        try:
            with self.input_errors():
                return self._next()
        except tf.errors.OutOfRangeError as error:
            raise StopIteration from error
        finally:
            self._waited += time.perf_counter() - started

    def timed_next(self) -> tuple[Batch, tf.Tensor]:
        """Returns the next batch and the wait for it in seconds, float64; called inside a compiled function."""
        started = tf_workarounds.read_clock()
        with tf.control_dependencies([started]):
            batch = next(self._iterator)
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            return batch, tf_workarounds.read_clock() - started

    def add_wait(self, seconds: tf.Tensor) -> None:
        """Adds the wait that `timed_next` measured to `waited`, without waiting for the device now."""
        self._pending.append(seconds)

    @contextlib.contextmanager
    def input_errors(self) -> Iterator[None]:
        """Converts errors of the input to StorageError. Other errors, such as those of the steps, pass through."""
        try:
            yield
        except (tf.errors.OutOfRangeError, tf.errors.ResourceExhaustedError):
            raise
        except tf.errors.OpError as error:
            if not re.search(r"GetNext(?!/_\d)", str(error)):  # the op that fetches the next batch, not an edge from it
                raise
            raise StorageError(
                f"The training data can no longer be read ({_describe_cause(error)}): check that the folder of shards "
                "is complete, and run the same command again."
            ) from error


def _describe_cause(error: tf.errors.OpError) -> str:
    """Returns the cause without the graph around it: the line above the first op that TensorFlow names."""
    lines = (error.message or "").splitlines()
    named = next((place for place, line in enumerate(lines) if "[[" in line), 0)
    return re.sub(r"\{\{.*?\}\}", "", lines[named - 1]).strip() if named else files.error_message(error)
