"""The optimizer and its learning rate, as the config says."""

from __future__ import annotations

import tensorflow as tf

from fer.config import Experiment

# No decay on biases and on the scales and shifts of normalisation layers: they need none, and decay harms
# them (Goyal et al. 2017, arXiv:1706.02677, section 5.1).
UNDECAYED = ["bias", "gamma", "beta"]


def optimizer(experiment: Experiment, steps_per_epoch: int, total_steps: int) -> tf.keras.optimizers.Optimizer:
    """A Keras optimizer with warm-up and half a cosine, and loss scaling under mixed_float16.

    Args:
      experiment: which optimizer, its strengths.
      steps_per_epoch: to turn epochs of warm-up into steps.
      total_steps: at which the learning rate reaches zero.
    """
    settings = experiment.optimizer
    common = {
        "learning_rate": learning_rate(experiment, steps_per_epoch, total_steps),
        "weight_decay": settings.weight_decay or None,
        "global_clipnorm": settings.clip_norm or None,
        "jit_compile": False,  # compiling the update alone gains nothing and fails under MirroredStrategy
    }
    if settings.name == "sgd":
        chosen = tf.keras.optimizers.SGD(momentum=settings.momentum, nesterov=True, **common)
    else:
        chosen = tf.keras.optimizers.AdamW(**{**common, "weight_decay": settings.weight_decay})
    if settings.weight_decay:
        chosen.exclude_from_weight_decay(var_names=UNDECAYED)
    if experiment.train.precision == "mixed_float16":
        return tf.keras.mixed_precision.LossScaleOptimizer(chosen)
    return chosen


def learning_rate(
    experiment: Experiment, steps_per_epoch: int, total_steps: int
) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """From zero up in a straight line, then down half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    settings = experiment.optimizer
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), total_steps - 1)
    if not warmup:
        return tf.keras.optimizers.schedules.CosineDecay(settings.learning_rate, total_steps)
    return tf.keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=total_steps - warmup,
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )
