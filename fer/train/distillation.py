"""Distillation: trained networks (teachers) predict soft targets for the augmented images of a new network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from fer.config import Train
from fer.errors import UserError
from fer.models import heads, loading
from fer.models.loading import LoadedRun

DistillFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def load_teachers(train: Train) -> list[LoadedRun]:
    """Loads the networks in the run directories of `train.teacher_runs`, in order, in the run's precision.

    Must be called in the strategy's scope, so that each replica has a copy of them.

    Raises:
      UserError: one of the directories is not a finished run, or is damaged.
    """
    try:
        return [loading.open_folder(folder, train.precision) for folder in loading.teachers(train)]
    except UserError as error:
        raise UserError(f"config.train.teacher_runs: {error}") from error


def teacher_records(teachers: Sequence[LoadedRun]) -> list[dict[str, str | int]]:
    """Returns what config.json records of the teachers, among it the weights that each was initialized with."""
    return [
        {
            "config_sha256": each.config_sha256,
            "weights_sha256": each.weights_sha256,
            "step": each.step,
            "began_with": each.config.model.weights,
        }
        for each in teachers
    ]


def make_distill_fn(teachers: Sequence[LoadedRun], share: float) -> DistillFn | None:
    """Returns the function that mixes the teachers' predictions into the targets; None without teachers.

    target = (1 - share) * target + share * mean of the teachers' probabilities. Since cross-entropy is linear in its
    target, this is the loss of Hinton et al. 2015 (arXiv:1503.02531, section 2) at temperature 1. The teachers predict
    the same augmented images, mixed images too, which makes long training schedules pay off (Beyer et al. 2022,
    arXiv:2106.05237, section 3.1).

    Args:
      teachers: from `load_teachers`.
      share: weight of the teachers' probabilities in the target, 0 to 1.

    Returns:
      A function of images, [B, H, W, 1] uint8, and targets, [B, 7] float32. It returns targets, [B, 7] float32, whose
      rows sum to 1.
    """

    def distill(images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        predicted = [tf.nn.softmax(heads.main_logits(each.model(images, training=False))) for each in teachers]
        return (1 - share) * targets + share * tf.stop_gradient(tf.add_n(predicted) / len(predicted))

    return distill if teachers else None
