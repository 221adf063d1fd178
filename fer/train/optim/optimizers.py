"""Construction of the optimizer that a config describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from fer import tf_workarounds
from fer.augment import xla_support
from fer.config import Experiment
from fer.train.optim import packed, tfa, tfa_equivalents

# Patterns of the variables without weight decay: biases and the scales and shifts of normalization layers, which decay
# harms (Goyal et al. 2017, arXiv:1706.02677, section 5.1), the slopes of PReLU, which it pulls towards ReLU (He et al.
# 2015, arXiv:1502.01852, section 2.1), and the exponent of GeM pooling, for which 0 is not valid.
NO_DECAY = ["bias", "gamma", "beta", "alpha", "power"]

Optimizer: TypeAlias = tf.keras.optimizers.Optimizer | tf.keras.optimizers.legacy.Optimizer


def make_optimizer(
    experiment: Experiment,
    schedule: tf.keras.optimizers.schedules.LearningRateSchedule,
    variables: Sequence[tf.Variable],
) -> Optimizer:
    """Makes an optimizer and all its variables, so that a checkpoint can be restored before the first step.

    Args:
      experiment: names the optimizer and its hyperparameters; mixed_float16 adds dynamic loss scaling.
      schedule: of the learning rate.
      variables: all variables that are trained in some phase of the run.
    """
    settings = experiment.optimizer
    if settings.name in ("lamb", "radam_lookahead"):
        implementation = packed if not xla_support.on_cpu() else tfa if tfa.is_installed() else tfa_equivalents
        make = implementation.make_lamb if settings.name == "lamb" else implementation.make_radam_lookahead
        optimizer = make(schedule, settings.weight_decay, NO_DECAY, settings.grad_clip_norm)
    else:
        optimizer = _make_keras_optimizer(experiment, schedule)
    if experiment.train.precision == "mixed_float16":
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    tf_workarounds.create_optimizer_variables(optimizer, variables)
    return optimizer


def scale_loss(optimizer: Optimizer, loss: tf.Tensor) -> tf.Tensor:
    """Multiplies the loss by the loss scale under mixed_float16."""
    return optimizer.get_scaled_loss(loss) if _has_loss_scale(optimizer) else loss


def unscale_grads(optimizer: Optimizer, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Divides the gradients of the scaled loss by the loss scale under mixed_float16."""
    return optimizer.get_unscaled_gradients(gradients) if _has_loss_scale(optimizer) else gradients


def apply_gradients(optimizer: Optimizer, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> None:
    """Updates the variables, on one replica, by gradients that are already summed over all replicas.

    Under loss scaling, gradients that overflowed change only the loss scale.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    legacy = isinstance(inner, tf.keras.optimizers.legacy.Optimizer)
    summed = {"experimental_aggregate_gradients": False} if legacy else {"skip_gradients_aggregation": True}
    optimizer.apply_gradients(zip(gradients, variables), **summed)


def _has_loss_scale(optimizer: Optimizer) -> bool:
    return isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)


def _make_keras_optimizer(
    experiment: Experiment, schedule: tf.keras.optimizers.schedules.LearningRateSchedule
) -> Optimizer:
    settings, kinds = experiment.optimizer, tf.keras.optimizers if xla_support.on_cpu() else packed
    common = {
        "learning_rate": schedule,
        "global_clipnorm": settings.grad_clip_norm or None,
        "jit_compile": False,  # compiling the update alone gains nothing and fails under MirroredStrategy
    }
    if settings.name == "sgd":
        optimizer = kinds.SGD(
            momentum=settings.momentum, nesterov=True, weight_decay=settings.weight_decay or None, **common
        )
    else:
        optimizer = kinds.AdamW(weight_decay=settings.weight_decay, **common)
    if settings.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    return optimizer
