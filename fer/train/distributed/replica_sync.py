"""Synchronization, at the end of every step, of the variables that each replica has its own copy of.

BatchNormalization's statistics and the epoch's metrics are such variables. By default, Keras sums or averages them
over the replicas on each read. A read would then be a communication between machines, so that one worker alone could
not write a checkpoint. A checkpoint would hold the mean instead of each replica's value, and a resumed run would differ
in the last bits from an uninterrupted one. Since the copies are kept equal, they are read from any replica.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fer.config import Experiment
from fer.errors import UserError


def check_sync_batch_norm(strategy: tf.distribute.Strategy, experiment: Experiment) -> None:
    """Checks that synchronized BatchNormalization is possible.

    Raises:
      UserError: replicas would have to communicate inside a loop or a compiled function, which TensorFlow does not
        support.
    """
    train = experiment.train
    if not experiment.model.sync_batch_norm or strategy.num_replicas_in_sync == 1:
        return
    if train.gradient_accumulation_steps > 1 or train.jit_compile is True:
        field = "gradient_accumulation_steps=1" if train.gradient_accumulation_steps > 1 else "jit_compile=false"
        raise UserError(
            f"config.model.sync_batch_norm lets {strategy.num_replicas_in_sync} replicas communicate in every layer, "
            f"which is not possible with gradient accumulation or jit_compile: set config.train.{field}, or "
            "config.model.sync_batch_norm=false."
        )


def make_variable_creator(created: list[tf.Variable]) -> Callable[..., tf.Variable]:
    """Returns a creator for `tf.variable_creator_scope`: variables with a copy per replica are read from the first.

    Args:
      created: the creator appends each variable to this list.
    """

    def create(next_creator: Callable[..., tf.Variable], **settings: Any) -> tf.Variable:
        if settings.get("synchronization") == tf.VariableSynchronization.ON_READ:
            settings["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        created.append(next_creator(**settings))
        return created[-1]

    return create


def sync_bn_stats(model: tf.keras.Model) -> None:
    """Averages the moving statistics over replicas; called in a replica's context, at the end of a step.

    The moving statistics are linear in the batches' statistics, so that this is the moving average of the replicas'
    mean, as Keras would return on a read. All statistics are reduced as one tensor. Synchronized layers are equal
    already, and frozen layers do not change. Blocks of KerasCV's EfficientNetV2 hold layers that they never build.
    """
    context = tf.distribute.get_replica_context()
    layers = [layer for layer in model.submodules if isinstance(layer, tf.keras.layers.BatchNormalization)]
    moving = [layer for layer in layers if layer.built and layer.trainable and not layer.synchronized]
    statistics = [variable for layer in moving for variable in (layer.moving_mean, layer.moving_variance)]
    if context.num_replicas_in_sync == 1 or not statistics:
        return
    flat = tf.concat([tf.reshape(variable, [-1]) for variable in statistics], axis=0)
    means = context.all_reduce(tf.distribute.ReduceOp.MEAN, flat)
    for variable, mean in zip(statistics, tf.split(means, [variable.shape.num_elements() for variable in statistics])):
        variable.assign(tf.reshape(mean, variable.shape))
