"""The learning rate as a function of the step."""

from __future__ import annotations

import tensorflow as tf

from fer.config import Experiment

ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1e-4  # of the highest rate (Smith and Topin 2018, arXiv:1708.07120)


class LRSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up from zero in a straight line, then what the config names.

    cosine     half a cosine down to zero (Loshchilov and Hutter 2017, arXiv:1608.03983)
    one_cycle  a cosine up from 1/25 of the highest rate instead of the straight line, and one down to 1/10,000 of it
    step       times `step_factor` after every `step_epochs` epochs, counted from the beginning of the run
    constant   stays

    Args:
      experiment: the rate and its form.
      steps_per_epoch: turns epochs into steps.
      total_steps: at which the run ends.
    """

    def __init__(self, experiment: Experiment, steps_per_epoch: int, total_steps: int):
        settings = experiment.optimizer
        self.form = settings.schedule
        self.highest = peak_lr(experiment)
        self.total = total_steps
        self.warmup = min(round(settings.warmup_epochs * steps_per_epoch), total_steps - 1)
        self.step_steps = max(1, round(settings.step_epochs * steps_per_epoch))
        self.step_factor = settings.step_factor

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of the step after `step` steps, float32."""
        step = tf.cast(step, tf.float32)
        risen = tf.clip_by_value(step / max(self.warmup, 1), 0.0, 1.0) if self.warmup else tf.ones([])
        gone = tf.clip_by_value((step - self.warmup) / (self.total - self.warmup), 0.0, 1.0)
        falling = 0.5 * (1 + tf.cos(gone * 3.141592653589793))
        if self.form == "one_cycle":
            rising = ONE_CYCLE_START + (1 - ONE_CYCLE_START) * 0.5 * (1 - tf.cos(risen * 3.141592653589793))
            share = tf.where(step < self.warmup, rising, ONE_CYCLE_END + (1 - ONE_CYCLE_END) * falling)
        elif self.form == "cosine":
            share = risen * falling
        elif self.form == "step":
            share = risen * self.step_factor ** tf.floor(step / self.step_steps)
        else:
            share = risen
        return self.highest * share

    def get_config(self) -> dict:
        """Raises NotImplementedError."""
        raise NotImplementedError("A schedule is rebuilt from the experiment, which is recorded with the run.")


def peak_lr(experiment: Experiment) -> float:
    """The rate at the end of the warm-up.

    With `rate_for_batch`, it is scaled in proportion to the global batch (Goyal et al. 2017, arXiv:1706.02677).
    """
    settings = experiment.optimizer
    if not settings.rate_for_batch:
        return settings.learning_rate
    return settings.learning_rate * experiment.train.global_batch / settings.rate_for_batch
