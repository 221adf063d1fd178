"""What a face is to be taken for: the label of FER-2013, FER+'s votes, or both."""

from __future__ import annotations

import tensorflow as tf

from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.labels import CLASSES, FERPLUS_COLUMNS, FERPLUS_OF_CLASS

COLUMNS = [FERPLUS_COLUMNS.index(name) for name in FERPLUS_OF_CLASS]


def soft(labels: tf.Tensor, votes: tf.Tensor, kind: str) -> tf.Tensor:
    """The probabilities that a face of each class is trained towards.

    "fer" gives the label all of it. "ferplus" gives each class its share of the votes for the seven classes (Barsoum
    et al. 2016, arXiv:1608.01041, section 3.3: cross-entropy with the distribution of the votes); votes for contempt,
    unknown and no face do not count, and a face without others keeps its label. "mixture" is the mean of both.

    Args:
      labels: [B] int32.
      votes: [B, 10] int32 in the order of `fer.labels.FERPLUS_COLUMNS`; "fer" does not look at them.
      kind: one of `fer.config.TARGETS`.

    Returns:
      [B, 7] float32, rows that sum to 1.
    """
    label = tf.one_hot(labels, len(CLASSES))
    if kind == "fer":
        return label
    counts = tf.cast(tf.gather(votes, COLUMNS, axis=1), tf.float32)
    total = tf.reduce_sum(counts, axis=1, keepdims=True)
    shares = tf.where(total > 0, counts / tf.maximum(total, 1.0), label)
    return shares if kind == "ferplus" else (label + shares) / 2


def check(shards: Manifest, kind: str) -> None:
    """Stops where votes are asked for of shards that were converted without.

    Raises:
      UserError: they were.
    """
    if kind != "fer" and not shards.raw["options"].get("ferplus"):
        raise UserError(
            f"config.train.targets is {kind!r}, but the shards in {shards.folder} hold no votes of FER+: convert them "
            "again with --ferplus=fer2013new.csv, or choose fer."
        )
