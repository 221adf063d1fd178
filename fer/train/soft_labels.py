"""Training targets: the labels, votes of FER+, and predictions of trained networks (distillation)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fer.config import Experiment, Train
from fer.data.manifest import Manifest
from fer.data.pipeline import Source
from fer.data.sampling import Batch
from fer.errors import UserError
from fer.labels import CLASSES, EMOTION_OF_WORD, FERPLUS_COLUMNS, FERPLUS_OF_CLASS
from fer.models import heads, loading
from fer.models.loading import LoadedRun
from fer.run_dir import Teacher
from fer.train import device_iterator

ABSENT_LOGIT = -1e4  # the logit of a class that the train split lacks
COLUMN_OF_EMOTION = {**dict(zip(CLASSES, FERPLUS_OF_CLASS)), "contempt": "contempt"}


class VotePosterior(NamedTuple):
    """The probability of each label given a face's votes: softmax(sqrt(vote shares) @ kernel + bias)."""

    kernel: np.ndarray  # [10, C] float32
    bias: np.ndarray  # [C] float32

    def probabilities(self, votes: tf.Tensor) -> tf.Tensor:
        """Returns the probabilities, [B, C] float32, for votes [B, 10]."""
        return tf.nn.softmax(_vote_features(tf.cast(votes, tf.float32)) @ self.kernel + self.bias)


def make_vote_posterior(source: Source, experiment: Experiment, epoch_steps: int, classes: int) -> VotePosterior | None:
    """Fits the posterior to the first epoch if the targets are "posterior"; returns None otherwise.

    Args:
      source: the train split.
      experiment: names the targets and the sampling. With `data.sampling` "balanced", the posterior has the balanced
        class frequencies that the run trains on.
      epoch_steps: batches in an epoch; one epoch is read.
      classes: number of classes.
    """
    if experiment.train.label_source != "posterior":
        return None
    return fit_vote_posterior(device_iterator.build_dataset(source, experiment, 0, epoch_steps, 1, [0]), classes)


def fit_vote_posterior(batches: Iterable[Batch], classes: int) -> VotePosterior:
    """Fits the probability of the labels given the votes in an epoch, by multinomial logistic regression.

    Raters and labels disagree on a third of the faces, and not equally for all classes: few raters vote for fear. With
    the shares of the votes as targets, a network would therefore learn other class frequencies than those of the labels
    that it is evaluated on. The posterior has the frequencies of the labels in the epoch.

    Args:
      batches: one epoch of the train split, with votes, in the sampling of the run.
      classes: number of classes.
    """
    from sklearn.linear_model import LogisticRegression  # loads for a second, which other targets do not need

    read = ((batch.labels.numpy(), batch.votes.numpy()) for batch in batches)
    labels, votes = (np.concatenate(parts) for parts in zip(*read))
    features = _vote_features(tf.cast(votes, tf.float32)).numpy()
    kernel, bias = (
        np.zeros([len(FERPLUS_COLUMNS), classes], np.float32),
        np.full(classes, ABSENT_LOGIT, np.float32),
    )
    present = np.unique(labels)
    if len(present) == 1:  # scikit-learn fits no fewer than two classes
        bias[present] = 0
        return VotePosterior(kernel, bias)
    regression = LogisticRegression(C=10.0, max_iter=1000).fit(features, labels)
    if len(regression.classes_) == 2:  # scikit-learn has a single row of weights for two classes
        bias[regression.classes_[0]] = 0
        kernel[:, regression.classes_[1]], bias[regression.classes_[1]] = regression.coef_[0], regression.intercept_[0]
    else:
        kernel[:, regression.classes_], bias[regression.classes_] = regression.coef_.T, regression.intercept_
    return VotePosterior(kernel, bias)


def _vote_features(votes: tf.Tensor) -> tf.Tensor:
    """Returns the square roots of the shares, which separate one vote from none better than the shares do."""
    return tf.sqrt(votes / tf.maximum(tf.reduce_sum(votes, axis=1, keepdims=True), 1.0))


def soft_targets(
    labels: tf.Tensor,
    votes: tf.Tensor,
    kind: str,
    classes: Sequence[str],
    vote_posterior: VotePosterior | None = None,
) -> tf.Tensor:
    """Returns the target probabilities of each face.

    "fer" gives the label probability 1. "ferplus" gives each class its share of the votes for all classes
    (Barsoum et al. 2016, arXiv:1608.01041, section 3.3: cross-entropy with the distribution of the votes). Votes for
    unknown, no face and emotions that are no class do not count, and a face without other votes keeps its label.
    "mixture" is the mean of both, "posterior" the mean of the label and of the posterior of the labels given the votes.

    Args:
      labels: [B] int32.
      votes: [B, 10] int32 in the order of `fer.labels.FERPLUS_COLUMNS`; not used by "fer".
      kind: a value of `fer.config.Train.label_source`.
      classes: the C names, which decide the columns of "ferplus" and "mixture".
      vote_posterior: used by "posterior" only.

    Returns:
      [B, C] float32, rows that sum to 1.
    """
    label = tf.one_hot(labels, len(classes))
    if kind == "fer":
        return label
    if kind == "posterior":
        if vote_posterior is None:
            raise ValueError('"posterior" needs vote_posterior.')
        return (label + vote_posterior.probabilities(votes)) / 2
    counts = tf.cast(tf.gather(votes, [_find_vote_column(name) for name in classes], axis=1), tf.float32)
    total = tf.reduce_sum(counts, axis=1, keepdims=True)
    shares = tf.where(total > 0, counts / tf.maximum(total, 1.0), label)
    return shares if kind == "ferplus" else (label + shares) / 2


def _find_vote_column(name: str) -> int | None:
    """Returns the index of the FER+ column that votes for a class; None if FER+ does not know its emotion."""
    column = COLUMN_OF_EMOTION.get(EMOTION_OF_WORD.get(name.casefold(), ""))
    return None if column is None else FERPLUS_COLUMNS.index(column)


def check_votes(shards: Manifest, kind: str) -> None:
    """Checks that the shards hold votes if the targets need them.

    Raises:
      UserError: the shards were converted without votes, or FER+ has no votes for one of their classes.
    """
    if kind != "fer" and not shards.raw["options"].get("ferplus"):
        raise UserError(
            f"config.train.label_source is {kind!r}, but the shards in {shards.folder} hold no votes of FER+: convert "
            "the data again with --ferplus=fer2013new.csv, or choose fer."
        )
    if kind == "posterior" and "ferplus_labels" in shards.raw["audit"]:
        raise UserError(
            f"config.train.label_source is 'posterior', but the labels in {shards.folder} are the majority of the "
            "votes, so that the votes hold no other label: choose ferplus."
        )
    unknown = [name for name in shards.classes if _find_vote_column(name) is None]
    if kind in ("ferplus", "mixture") and unknown:
        raise UserError(
            f"config.train.label_source is {kind!r}, but FER+ has no votes for the class {unknown[0]!r} of "
            f"{shards.folder}: choose fer or posterior."
        )


DistillFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def load_teachers(train: Train, shards: Manifest) -> list[LoadedRun]:
    """Loads the networks in the run directories of `train.teacher_runs`, in order, in the run's precision.

    Must be called in the strategy's scope, so that each replica has a copy of them.

    Raises:
      UserError: one of the directories is not a finished run or is damaged, or its run has other classes than the data.
    """
    try:
        runs = [loading.open_folder(folder, train.precision) for folder in loading.teachers(train)]
        for run in runs:
            loading.check_same_classes(run.workdir, run.classes, shards.folder, shards.classes)
        return runs
    except UserError as error:
        raise UserError(f"config.train.teacher_runs: {error}") from error


def teacher_records(teachers: Sequence[LoadedRun]) -> list[Teacher]:
    """Returns the records of the teachers for config.json."""
    return [
        Teacher(
            each.weights_sha256,
            each.config_sha256,
            each.step,
            ", ".join(run["run"] for run in each.averaged)
            or each.initialized_from.get("run", each.config.model.weights),
        )
        for each in teachers
    ]


def make_distill_fn(teachers: Sequence[LoadedRun], share: float) -> DistillFn | None:
    """Returns the function that mixes the teachers' predictions into the targets; None without teachers.

    target = (1 - share) * target + share * mean of the teachers' probabilities. Since cross-entropy is linear in its
    target, this is the loss of Hinton et al. 2015 (arXiv:1503.02531, section 2) at temperature 1, except that
    `train.label_smoothing` smooths the mixed target, the teachers' part included. The teachers predict the same
    augmented images, mixed images too, which makes long training schedules pay off (Beyer et al. 2022,
    arXiv:2106.05237, section 3.1).

    Args:
      teachers: from `load_teachers`.
      share: weight of the teachers' probabilities in the target, 0 to 1.

    Returns:
      A function of images, [B, H, W, 1] uint8, and targets, [B, C] float32. It returns targets, [B, C] float32, whose
      rows sum to 1.
    """

    def distill(images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        predicted = [tf.nn.softmax(heads.main_logits(each.model(images, training=False))) for each in teachers]
        return (1 - share) * targets + share * tf.stop_gradient(tf.add_n(predicted) / len(predicted))

    return distill if teachers else None
