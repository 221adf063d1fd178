"""The state of a run: all that training changes, and all that a checkpoint holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fer import rng
from fer.augment import xla_support
from fer.config import Experiment
from fer.labels import CLASSES
from fer.models import avx2_layers, classifier, pretrained
from fer.train.distributed import replica_sync
from fer.train.optim import lr_schedules, optimizers


@dataclasses.dataclass(frozen=True)
class TrainState:
    """The model, the optimizer, the step and the epoch's metrics.

    The names of the fields that `checkpoint` saves are part of the format of checkpoints.
    """

    model: tf.keras.Model
    average: tf.keras.Model  # its weights are the moving average of the model's; the model itself without EMA
    optimizer: tf.keras.optimizers.Optimizer
    step: tf.Variable  # int64, on each host: steps done, including steps that overflowed and changed nothing
    loss: tf.keras.metrics.Mean  # of the epoch so far
    accuracy: tf.keras.metrics.Mean
    variables: tuple[tf.Variable, ...]  # all variables of the fields above except the step
    model_weights: tuple[tf.Variable, ...]  # in the order of a model without frozen layers
    ema_weights: tuple[tf.Variable, ...]  # of `average`, in the same order

    def checkpoint(self) -> tf.train.Checkpoint:
        """Returns the state as TensorFlow saves and restores it."""
        names = {field.name for field in dataclasses.fields(self)} - {"variables", "model_weights", "ema_weights"}
        return tf.train.Checkpoint(**{name: getattr(self, name) for name in sorted(names)})

    def is_finite(self) -> bool:
        """Returns whether all weights of the model are finite."""
        return all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in self.model.variables)

    def learning_rate(self) -> float:
        """Returns the learning rate of the last step; before the first step, of the first."""
        rate = self.optimizer.learning_rate  # in Keras' legacy optimizers a schedule of the number of steps done
        last = tf.maximum(self.optimizer.iterations - 1, 0)
        return float(tf.convert_to_tensor(rate(last) if callable(rate) else rate))

    def loss_scale(self) -> float:
        """Returns the factor of the losses under mixed_float16; 1 otherwise."""
        return float(tf.convert_to_tensor(getattr(self.optimizer, "loss_scale", 1.0)))


def create_train_state(
    strategy: tf.distribute.Strategy,
    experiment: Experiment,
    steps_per_epoch: int,
    total_steps: int,
    initial_weights: Sequence[np.ndarray | None] | None = None,
    classes: Sequence[str] = CLASSES,
) -> TrainState:
    """Creates the state before the first step, a function of the experiment's seed.

    Args:
      strategy: all variables but the step are created in its scope.
      experiment: the configuration.
      steps_per_epoch: for the learning rate schedule.
      total_steps: of the run, for the learning rate schedule.
      initial_weights: of the model, in Keras' order, with None for those that stay random; if None, those that
        `model.weights` of the config names.
      classes: their names, in label order; by default those of FER-2013.
    """
    precision = experiment.train.precision
    others: list[tf.Variable] = []
    with tf.device(rng.HOST):  # the seeds are computed from it on the host
        step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
    with strategy.scope(), tf.variable_creator_scope(replica_sync.make_variable_creator(others)):
        model = classifier.build(experiment.model, precision, experiment.seed, len(classes))
        if initial_weights is None:
            pretrained.load(model, experiment.model, classes)
        else:
            pretrained.set_weights(model, initial_weights)
        if xla_support.on_cpu() and experiment.train.jit_compile is not True:
            avx2_layers.accelerate(model)
        average = model
        if experiment.train.ema_decay:
            average = classifier.build(experiment.model, precision, experiment.seed, len(classes))
            average.set_weights(model.get_weights())
        others.clear()  # releases temporary networks: before adaptation, and those that weights were copied from
        schedule = lr_schedules.LRSchedule(experiment, steps_per_epoch, total_steps)
        optimizer = optimizers.make_optimizer(experiment, schedule, model.trainable_variables)
        loss, accuracy = tf.keras.metrics.Mean("loss"), tf.keras.metrics.Mean("accuracy")
    model_weights, ema_weights = tuple(model.weights), tuple(average.weights)
    variables = (*model_weights, *(ema_weights if average is not model else ()), *others)
    return TrainState(model, average, optimizer, step, loss, accuracy, variables, model_weights, ema_weights)
