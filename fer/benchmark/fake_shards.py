"""Writes shards of any size for benchmarks by repeating a few images, without a conversion."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

import fer
from fer.data import example_codec, manifest
from fer.io import files
from fer.labels import CLASSES

SHARD_ROWS = 10_000


def write_shards(folder: str, images: np.ndarray, labels: np.ndarray, rows: int) -> manifest.Manifest:
    """Writes a train split of `rows` examples in the format of tfrecords/README.md; the images repeat in order.

    Args:
      folder: the output directory, created if missing.
      images: uint8 [n, 2304].
      labels: int [n], each 0 to 6.
      rows: the number of examples of the split.
    """
    tf.io.gfile.makedirs(folder)
    count, shards = -(-rows // SHARD_ROWS), []
    for number, part in enumerate(np.array_split(np.arange(rows), count)):
        path = os.path.join(folder, f"train-{number:05d}-of-{count:05d}.tfrecord")
        chosen = part % len(images)
        with tf.io.TFRecordWriter(path) as writer:
            for message in example_codec.encode_examples(images[chosen], labels[chosen], part, None):
                writer.write(message)
        size = tf.io.gfile.stat(path).length
        shards.append(
            {"file": os.path.basename(path), "examples": len(part), "bytes": size, "sha256": files.sha256(path)}
        )
    counts = np.bincount(labels[np.arange(rows) % len(images)], minlength=len(CLASSES)).tolist()
    split = {"examples": rows, "class_counts": dict(zip(CLASSES, counts)), "shards": shards}
    manifest.write_manifest(
        folder,
        {
            "format_version": manifest.FORMAT_VERSION,
            "name": "measuring",
            "classes": list(CLASSES),
            "image": manifest.IMAGE_FORMAT,
            "splits": {"train": split},
            "statistics": {"mean": None, "std": None},
            "source": {},
            "audit": {},
            "options": {},
            "created_by": f"fer {fer.__version__}",
        },
    )
    return manifest.read_manifest(folder)
