"""What a face is to be taken for: the label of FER-2013, FER+'s votes, or both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from fer.config import Experiment
from fer.data.manifest import Manifest
from fer.data.pipeline import Source
from fer.data.sampling import Batch
from fer.errors import UserError
from fer.labels import CLASSES, FERPLUS_COLUMNS, FERPLUS_OF_CLASS
from fer.train import device_iterator

ABSENT_LOGIT = -1e4  # the logit of a class that the train split lacks
VOTE_COLUMNS = [FERPLUS_COLUMNS.index(name) for name in FERPLUS_OF_CLASS]


class VotePosterior(NamedTuple):
    """The probability of each label given a face's votes: softmax(sqrt(shares of the votes) @ kernel + bias)."""

    kernel: np.ndarray  # [10, 7] float32
    bias: np.ndarray  # [7] float32

    def of(self, votes: tf.Tensor) -> tf.Tensor:
        """[B, 7] float32 from votes [B, 10]."""
        return tf.nn.softmax(_vote_features(tf.cast(votes, tf.float32)) @ self.kernel + self.bias)


def make_vote_posterior(source: Source, experiment: Experiment, epoch_steps: int) -> VotePosterior | None:
    """What targets "posterior" need of the train split; None for others.

    Args:
      source: the train split.
      experiment: names the targets.
      epoch_steps: batches in an epoch, one of which is read.
    """
    if experiment.train.targets != "posterior":
        return None
    return fit_vote_posterior(device_iterator.build_dataset(source, experiment, 0, epoch_steps, 1, [0]))


def fit_vote_posterior(batches: Iterable[Batch]) -> VotePosterior:
    """How labels follow from votes in the train split, by multinomial logistic regression.

    Raters and labels disagree in a third of the faces, and not alike for all classes: fear is seldom voted for. So the
    votes' shares would teach other frequencies than those of the labels that a network is measured by; this does not.

    Args:
      batches: of the train split, with votes; an epoch of them.
    """
    labels, votes = zip(*((batch.labels.numpy(), batch.votes.numpy()) for batch in batches))
    features = _vote_features(tf.cast(np.concatenate(votes), tf.float32)).numpy()
    answers = np.concatenate(labels)
    found = LogisticRegression(C=10.0, max_iter=1000).fit(features, answers)
    kernel, bias = (
        np.zeros([len(FERPLUS_COLUMNS), len(CLASSES)], np.float32),
        np.full(len(CLASSES), ABSENT_LOGIT, np.float32),
    )
    if len(found.classes_) == 2:  # which scikit-learn keeps one row of weights for
        bias[found.classes_[0]] = 0
        kernel[:, found.classes_[1]], bias[found.classes_[1]] = found.coef_[0], found.intercept_[0]
    else:
        kernel[:, found.classes_], bias[found.classes_] = found.coef_.T, found.intercept_
    return VotePosterior(kernel, bias)


def _vote_features(votes: tf.Tensor) -> tf.Tensor:
    """Square roots of the shares, which tell one vote from none better than shares do."""
    return tf.sqrt(votes / tf.maximum(tf.reduce_sum(votes, axis=1, keepdims=True), 1.0))


def soft_targets(
    labels: tf.Tensor, votes: tf.Tensor, kind: str, labels_of_votes: VotePosterior | None = None
) -> tf.Tensor:
    """The probabilities that a face of each class is trained towards.

    "fer" gives the label all of it. "ferplus" gives each class its share of the votes for the seven classes (Barsoum
    et al. 2016, arXiv:1608.01041, section 3.3: cross-entropy with the distribution of the votes); votes for contempt,
    unknown and no face do not count, and a face without others keeps its label. "mixture" is the mean of both,
    "posterior" that of the label and of the labels that such votes come with.

    Args:
      labels: [B] int32.
      votes: [B, 10] int32 in the order of `fer.labels.FERPLUS_COLUMNS`; "fer" does not look at them.
      kind: one of `fer.config.TARGETS`.
      labels_of_votes: needed by "posterior" alone.

    Returns:
      [B, 7] float32, rows that sum to 1.
    """
    label = tf.one_hot(labels, len(CLASSES))
    if kind == "fer":
        return label
    if kind == "posterior":
        if labels_of_votes is None:
            raise ValueError('"posterior" needs labels_of_votes.')
        return (label + labels_of_votes.of(votes)) / 2
    counts = tf.cast(tf.gather(votes, VOTE_COLUMNS, axis=1), tf.float32)
    total = tf.reduce_sum(counts, axis=1, keepdims=True)
    shares = tf.where(total > 0, counts / tf.maximum(total, 1.0), label)
    return shares if kind == "ferplus" else (label + shares) / 2


def check_votes(shards: Manifest, kind: str) -> None:
    """Stops where votes are asked for of shards that were converted without.

    Raises:
      UserError: they were.
    """
    if kind != "fer" and not shards.raw["options"].get("ferplus"):
        raise UserError(
            f"config.train.targets is {kind!r}, but the shards in {shards.folder} hold no votes of FER+: convert them "
            "again with --ferplus=fer2013new.csv, or choose fer."
        )
