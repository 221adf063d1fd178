"""All that changes while a run goes on, in one place: it is what a checkpoint holds."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from fer import rng
from fer.config import Experiment
from fer.models import classifier, pretrained
from fer.train.distributed import replica_sync
from fer.train.optim import lr_schedules, optimizers


@dataclasses.dataclass(frozen=True)
class TrainState:
    """A run at one moment."""

    model: tf.keras.Model
    average: tf.keras.Model  # its weights are the moving average of the model's; the model itself without EMA
    optimizer: tf.keras.optimizers.Optimizer
    step: tf.Variable  # int64, on each host: steps done, those that overflowed and changed nothing too
    loss: tf.keras.metrics.Mean  # of the epoch so far
    accuracy: tf.keras.metrics.Mean
    variables: tuple[tf.Variable, ...]  # of all the above but the step
    trained: tuple[tf.Variable, ...]  # the model's weights, and
    evaluated: tuple[tf.Variable, ...]  # the average's, both in the order of a model of which nothing is frozen

    def trackable(self) -> tf.train.Checkpoint:
        """The state as TensorFlow saves and restores it."""
        names = {field.name for field in dataclasses.fields(self)} - {"variables", "trained", "evaluated"}
        return tf.train.Checkpoint(**{name: getattr(self, name) for name in sorted(names)})

    def finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in self.model.variables)

    def learning_rate(self) -> float:
        """Of the last step, or of the first before it is made."""
        rate = self.optimizer.learning_rate  # of Keras' older optimizers a schedule, by the steps before
        last = tf.maximum(self.optimizer.iterations - 1, 0)
        return float(tf.convert_to_tensor(rate(last) if callable(rate) else rate))

    def loss_scale(self) -> float:
        """By which losses are multiplied under mixed_float16; 1 otherwise."""
        return float(tf.convert_to_tensor(getattr(self.optimizer, "loss_scale", 1.0)))


def create_train_state(
    strategy: tf.distribute.Strategy, experiment: Experiment, steps_per_epoch: int, total_steps: int
) -> TrainState:
    """The state before the first step, a function of the experiment's seed."""
    precision = experiment.train.precision
    others: list[tf.Variable] = []
    with tf.device(rng.HOST):  # the seeds follow from it
        step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
    with strategy.scope(), tf.variable_creator_scope(replica_sync.make_variable_creator(others)):
        model = classifier.build(experiment.model, precision, experiment.seed)
        pretrained.load(model, experiment.model)
        average = model
        if experiment.train.ema_decay:
            average = classifier.build(experiment.model, precision, experiment.seed)
            average.set_weights(model.get_weights())
        others.clear()  # networks that were only a step on the way, before adapting and as givers of weights, may go
        rate = lr_schedules.LRSchedule(experiment, steps_per_epoch, total_steps)
        optimizer = optimizers.make_optimizer(experiment, rate, model.trainable_variables)
        loss, accuracy = tf.keras.metrics.Mean("loss"), tf.keras.metrics.Mean("accuracy")
    trained, evaluated = tuple(model.weights), tuple(average.weights)
    variables = (*trained, *(evaluated if average is not model else ()), *others)
    return TrainState(model, average, optimizer, step, loss, accuracy, variables, trained, evaluated)
