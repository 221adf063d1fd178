"""The learning rate as a function of the step."""

from __future__ import annotations

import tensorflow as tf

from fer.config import Experiment

LENGTH_SCHEDULES = ("cosine", "one_cycle")  # whose values depend on the number of steps of the run
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1e-4  # of the peak learning rate (Smith and Topin 2018, arXiv:1708.07120)


class LRSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from zero, then the schedule that the config names.

    cosine     half a cosine down to zero (Loshchilov and Hutter 2017, arXiv:1608.03983)
    one_cycle  warm-up by a cosine from 1/25 of the peak, then a cosine down to 1/10,000 of the peak
    step       multiplied by `decay_rate` after every `decay_epochs` epochs, counted from the start of the run
    constant   the peak

    Args:
      experiment: the learning rate and the schedule.
      steps_per_epoch: converts epochs to steps.
      total_steps: of the run.
    """

    def __init__(self, experiment: Experiment, steps_per_epoch: int, total_steps: int):
        settings = experiment.optimizer
        self.name = settings.schedule
        self.peak = peak_lr(experiment)
        self.total = total_steps
        self.warmup = min(round(settings.warmup_epochs * steps_per_epoch), total_steps - 1)
        self.decay_steps = max(1, round(settings.decay_epochs * steps_per_epoch))
        self.decay_rate = settings.decay_rate

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of the step after `step` steps, float32."""
        step = tf.cast(step, tf.float32)
        warmed = tf.clip_by_value(step / max(self.warmup, 1), 0.0, 1.0) if self.warmup else tf.ones([])
        progress = tf.clip_by_value((step - self.warmup) / (self.total - self.warmup), 0.0, 1.0)
        decay = 0.5 * (1 + tf.cos(progress * 3.141592653589793))
        if self.name == "one_cycle":
            rise = ONE_CYCLE_START + (1 - ONE_CYCLE_START) * 0.5 * (1 - tf.cos(warmed * 3.141592653589793))
            share = tf.where(step < self.warmup, rise, ONE_CYCLE_END + (1 - ONE_CYCLE_END) * decay)
        elif self.name == "cosine":
            share = warmed * decay
        elif self.name == "step":
            share = warmed * self.decay_rate ** tf.floor(step / self.decay_steps)
        else:
            share = warmed
        return self.peak * share

    def get_config(self) -> dict:
        """Raises NotImplementedError: a schedule is not serialized."""
        raise NotImplementedError("A schedule is rebuilt from the experiment, which is recorded with the run.")


def peak_lr(experiment: Experiment) -> float:
    """Returns the learning rate at the end of the warm-up.

    With `base_batch_size`, the configured learning rate is scaled in proportion to the global batch size (Goyal et al.
    2017, arXiv:1706.02677).
    """
    settings = experiment.optimizer
    if not settings.base_batch_size:
        return settings.learning_rate
    return settings.learning_rate * experiment.train.global_batch_size / settings.base_batch_size
