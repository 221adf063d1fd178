"""What each replica keeps for itself is made alike at the end of every step.

BatchNormalization's statistics and the epoch's metrics are variables of which every replica has its own. Keras adds
or averages them whenever they are read, which would make reading a conversation between machines (so that one alone
could not write a checkpoint), and a checkpoint would hold the mean where each replica had its own: a run that goes on
from it would differ in the last bits from one that was never stopped. Alike, they are read from any replica.
"""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf

from fer.config import Experiment
from fer.errors import UserError


def check_sync_batch_norm(strategy: tf.distribute.Strategy, experiment: Experiment) -> None:
    """Refuses what synchronised statistics cannot be computed in.

    Raises:
      UserError: replicas would have to confer inside a loop or a compiled function, which TensorFlow does not let them.
    """
    train = experiment.train
    if not experiment.model.sync_batch_norm or strategy.num_replicas_in_sync == 1:
        return
    if train.accumulation > 1 or train.jit_compile:
        field = "accumulation=1" if train.accumulation > 1 else "jit_compile=false"
        raise UserError(
            f"config.model.sync_batch_norm lets {strategy.num_replicas_in_sync} replicas confer in every layer, which "
            f"they cannot with accumulation above 1 or jit_compile: set config.train.{field}, or leave out "
            "sync_batch_norm."
        )


def make_variable_creator(made: list[tf.Variable]) -> Callable[..., tf.Variable]:
    """A creator for `tf.variable_creator_scope`: what every replica has its own of is read from the first.

    Args:
      made: takes up the variables that are created.
    """

    def create(next_creator: Callable[..., tf.Variable], **settings: Any) -> tf.Variable:
        if settings.get("synchronization") == tf.VariableSynchronization.ON_READ:
            settings["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        made.append(next_creator(**settings))
        return made[-1]

    return create


def sync_bn_stats(model: tf.keras.Model) -> None:
    """Averages the moving statistics over replicas; called in a replica's context, at the end of a step.

    The statistics are linear in the batches', so this is the moving average of the replicas' mean, as Keras would
    give on reading. They travel together as one tensor. Synchronised layers are alike already, frozen ones stay.
    """
    context = tf.distribute.get_replica_context()
    layers = [layer for layer in model.submodules if isinstance(layer, tf.keras.layers.BatchNormalization)]
    moving = [layer for layer in layers if layer.trainable and not layer.synchronized]
    statistics = [variable for layer in moving for variable in (layer.moving_mean, layer.moving_variance)]
    if context.num_replicas_in_sync == 1 or not statistics:
        return
    together = tf.concat([tf.reshape(variable, [-1]) for variable in statistics], axis=0)
    means = context.all_reduce(tf.distribute.ReduceOp.MEAN, together)
    for variable, mean in zip(statistics, tf.split(means, [variable.shape.num_elements() for variable in statistics])):
        variable.assign(tf.reshape(mean, variable.shape))
