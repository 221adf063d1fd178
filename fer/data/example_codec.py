"""Reads faces from TFRecords of `tf.train.Example` and checks them. tfrecords/README.md specifies them."""

from __future__ import annotations

import dataclasses
import hashlib
import os

import numpy as np
import tensorflow as tf

from fer.data import shard_cache
from fer.data.manifest import MANIFEST_FILE, Manifest, Shard, missing_shard_message
from fer.errors import UserError
from fer.io import files
from fer.labels import FERPLUS_COLUMNS, PIXELS, SIDE

BATCH_SIZE = 4096  # records decoded at once

_FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "row": tf.io.FixedLenFeature([], tf.int64),
}
_VOTES = {"votes": tf.io.FixedLenFeature([len(FERPLUS_COLUMNS)], tf.int64, [-1] * len(FERPLUS_COLUMNS))}
_EMPTY_COLUMNS = (
    np.empty((0, SIDE, SIDE, 1), np.uint8),
    np.empty(0, np.int32),
    np.empty(0, np.int64),
    np.empty((0, len(FERPLUS_COLUMNS)), np.int32),
)


@dataclasses.dataclass(frozen=True)
class Faces:
    """A split in memory, in the order of its shards and records.

    `votes` holds those of FER+ in the order of `fer.labels.FERPLUS_COLUMNS`; None if the split has none.
    """

    images: np.ndarray  # uint8 [n, 48, 48, 1]
    labels: np.ndarray  # int32 [n], index into the manifest's classes; -1 unlabelled
    rows: np.ndarray  # int64 [n], zero-based row of the source
    votes: np.ndarray | None  # int32 [n, 10]

    @property
    def examples(self) -> int:
        """Number of faces."""
        return len(self.labels)


def read_split(manifest: Manifest, split: str) -> Faces:
    """Reads a whole split into memory and checks each shard: SHA-256, checksums, number of records and contents.

    Args:
      manifest: of the folder.
      split: name of the split.

    Raises:
      UserError: there is no such split; or a shard, which the message names, is missing, truncated, changed or foreign.
    """
    wanted = manifest.split(split)
    shard_cache.local_paths(manifest, split)  # checks the disk space for all of them first
    parts = [read_shard(manifest.folder, shard, len(manifest.classes)) for shard in wanted.shards]
    votes = [part.votes for part in parts if part.votes is not None]
    faces = Faces(
        images=np.concatenate([_EMPTY_COLUMNS[0], *(part.images for part in parts)]),
        labels=np.concatenate([_EMPTY_COLUMNS[1], *(part.labels for part in parts)]),
        rows=np.concatenate([_EMPTY_COLUMNS[2], *(part.rows for part in parts)]),
        votes=np.concatenate(votes) if votes and len(votes) == len(parts) else None,
    )
    counts = np.bincount(faces.labels[faces.labels >= 0], minlength=len(manifest.classes)).tolist()
    if counts != list(wanted.class_counts.values()):
        raise UserError(
            f"The labels of split {split} in {manifest.folder} do not have the class counts of {MANIFEST_FILE}."
        )
    return faces


def read_shard(folder: str, shard: Shard, classes: int) -> Faces:
    """Reads one shard and checks it.

    Args:
      folder: of the shard.
      shard: its entry in the manifest.
      classes: number of classes.

    Raises:
      UserError: the shard is missing, truncated, changed or foreign.
    """
    path, copy = os.path.join(folder, shard.file), shard_cache.local_path(folder, shard)
    content = files.read_bytes(copy, missing_shard_message(path))
    if len(content) != shard.bytes:
        raise shard_error(path, f"has {len(content):,} bytes where {MANIFEST_FILE} states {shard.bytes:,}")
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise shard_error(path, f"has another SHA-256 than {MANIFEST_FILE} states")
    del content
    try:
        batches = [
            _decode_batch(batch) for batch in tf.data.TFRecordDataset(copy, buffer_size=1 << 22).batch(BATCH_SIZE)
        ]
    except tf.errors.DataLossError as error:
        raise shard_error(path, "has a record whose checksum is wrong") from error
    except (OSError, tf.errors.OpError) as error:
        raise shard_error(path, f"cannot be read as faces ({files.error_message(error)})") from error
    faces = [np.concatenate(parts) for parts in zip(_EMPTY_COLUMNS, *batches)]
    if len(faces[0]) != shard.examples:
        raise shard_error(path, f"holds {len(faces[0]):,} faces where {MANIFEST_FILE} states {shard.examples:,}")
    if ((faces[1] < -1) | (faces[1] >= classes)).any():
        raise shard_error(path, f"has a label outside -1 to {classes - 1}")
    images, labels, rows, votes = faces
    return Faces(images, labels, rows, votes if (votes >= 0).all() and len(votes) else None)


def parse_examples(serialized: tf.Tensor, votes: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Parses a batch of records within tf.data.

    Args:
      serialized: string [B].
      votes: whether to parse the votes of FER+, which every record must then have.

    Returns:
      images uint8 [B, 48, 48, 1], labels int32 [B], and votes int32 [B, 10], or [B, 0] without `votes`.
    """
    wanted = {**{name: _FEATURES[name] for name in ("image", "label")}, **(_VOTES if votes else {})}
    features = tf.io.parse_example(serialized, wanted)
    labels = tf.cast(features["label"], tf.int32)
    counts = tf.cast(features["votes"], tf.int32) if votes else tf.zeros([tf.shape(labels)[0], 0], tf.int32)
    return _decode_images(features["image"]), labels, counts


def _decode_images(raw: tf.Tensor) -> tf.Tensor:
    """Decodes raw pixels, string [B], to uint8 [B, 48, 48, 1]."""
    pixels = tf.io.decode_raw(raw, tf.uint8)
    return tf.reshape(tf.ensure_shape(pixels, [None, PIXELS]), [-1, SIDE, SIDE, 1])


def _decode_batch(batch: tf.Tensor) -> list[np.ndarray]:
    """Parses a batch of records to images, labels, rows and votes; votes are -1 where a record has none."""
    features = tf.io.parse_example(batch, {**_FEATURES, **_VOTES})
    columns = (
        _decode_images(features["image"]),
        tf.cast(features["label"], tf.int32),
        features["row"],
        tf.cast(features["votes"], tf.int32),
    )
    return [column.numpy() for column in columns]


def shard_error(path: str, what: str) -> UserError:
    """Returns the error for a shard that does not agree with the manifest."""
    return UserError(f"{path} {what}: it is truncated, changed or not of this data. Convert the data again.")
