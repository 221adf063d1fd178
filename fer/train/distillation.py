"""Distillation: networks that were trained before teach a new one what they see in the very images it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from fer.config import Train
from fer.errors import UserError
from fer.models import heads, run_loading
from fer.models.run_loading import LoadedRun

DistillFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def load_teachers(train: Train) -> list[LoadedRun]:
    """The networks in the run folders of `train.teacher`, in its order, computing in the run's precision.

    To be called in the strategy's scope, so that each replica has a copy of them.

    Raises:
      UserError: one of the folders is no finished run, or is damaged.
    """
    try:
        return [run_loading.read(folder, train.precision) for folder in run_loading.teachers(train)]
    except UserError as error:
        raise UserError(f"config.train.teacher: {error}") from error


def teacher_records(teachers: Sequence[LoadedRun]) -> list[dict[str, str | int]]:
    """What a run's config.json keeps of them: which weights taught, and what those had begun with."""
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
    """The function from images and targets to the targets with the teachers in them; None without teachers.

    target = (1 - share) * target + share * mean of the teachers' probabilities: the loss of Hinton et al. 2015,
    arXiv:1503.02531, section 2, at temperature 1, since cross-entropy is linear in its target. The teachers see the
    same augmented images, mixed ones too, which is what makes long trainings pay (Beyer et al. 2022,
    arXiv:2106.05237, section 3.1).

    Args:
      teachers: as `read` gives them.
      share: of the target, 0 to 1.

    Returns:
      ([B, H, W, 1] uint8, [B, 7] float32) to [B, 7] float32, rows that sum to 1.
    """

    def teach(images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        seen = [tf.nn.softmax(heads.main_logits(each.model(images, training=False))) for each in teachers]
        return (1 - share) * targets + share * tf.stop_gradient(tf.add_n(seen) / len(seen))

    return teach if teachers else None
