"""What the input gives: batches of training and of evaluation, uint8 until they are on the device."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

AHEAD = 2  # batches prepared while one is trained on; more only takes memory


class Batch(NamedTuple):
    """What one replica gets for one step."""

    images: tf.Tensor  # [B, 48, 48, 1] uint8
    labels: tf.Tensor  # [B] int32
    positions: tf.Tensor  # [B] int32: of each example in the global batch
    votes: tf.Tensor  # [B, 10] int32: of FER+, in the order of fer.labels.FERPLUS_COLUMNS; [B, 0] if not asked for


class EvalBatch(NamedTuple):
    """A batch of an evaluation: the last one is filled up with examples of weight 0."""

    images: tf.Tensor  # [B, 48, 48, 1] uint8
    labels: tf.Tensor  # [B] int32
    weights: tf.Tensor  # [B] float32, 1 or 0
