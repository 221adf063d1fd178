"""The batches of a run, on the devices when they are asked for, and how long the host waited for them."""

from __future__ import annotations

import time

import tensorflow as tf

from fer import files
from fer.config import Experiment
from fer.data import pipeline
from fer.data.pipeline import Batch, Source
from fer.errors import UserError

ON_DEVICE = 2  # batches a replica that are copied to its device ahead of their step


class Feed:
    """An iterator over a run's batches from a step on, each replica its share.

    `waited` is the time spent in asking for batches, in seconds. On a GPU the host runs ahead of the device, so it is
    an upper bound of what the device stood still for; on a CPU, where reading and computing share the cores, it
    leaves out what reading takes from the computing.
    """

    def __init__(self, strategy: tf.distribute.Strategy, source: Source, experiment: Experiment, start: int, stop: int):
        replicas = strategy.num_replicas_in_sync

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            share = replicas // context.num_input_pipelines
            local = range(context.input_pipeline_id * share, (context.input_pipeline_id + 1) * share)
            return pipeline.training_batches(
                source,
                experiment.seed,
                experiment.train.global_batch,
                start,
                stop,
                replicas,
                local,
                experiment.data.sampling,
            )

        options = tf.distribute.InputOptions(experimental_per_replica_buffer_size=ON_DEVICE)
        iterator = iter(strategy.distribute_datasets_from_function(of_worker, options))
        # Compiled, asking costs a fraction of what it costs eagerly, where each replica is asked from Python.
        self._take = tf.function(lambda: next(iterator))
        self.waited = 0.0

    def __next__(self) -> Batch:
        """The next batch of every replica.

        Raises:
          UserError: the shards can be read no longer, or are no longer those that were checked.
        """
        started = time.perf_counter()
        try:
            return self._take()
        except tf.errors.OutOfRangeError as error:
            raise StopIteration from error
        except tf.errors.OpError as error:
            raise UserError(
                f"The training data can no longer be read ({files.reason(error)}): see that the folder of shards is "
                "whole, and run the same command again."
            ) from error
        finally:
            self.waited += time.perf_counter() - started
