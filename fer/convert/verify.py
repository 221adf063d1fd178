"""Verification of a folder of shards against its manifest, byte for byte."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from fer.data import example_codec
from fer.data.manifest import MANIFEST_FILE, Manifest, pixel_statistics, read_manifest
from fer.errors import UserError
from fer.labels import CLASSES


def verify(folder: str) -> Manifest:
    """Checks every shard and the pixel statistics.

    Checks of a shard: size, SHA-256, and the checksums, number, contents and labels of its records.

    Returns:
      The manifest, which agrees with everything.

    Raises:
      UserError: there is no manifest, or a file or figure differs from it; the message names each.
    """
    manifest = read_manifest(folder)
    known = {shard.file for split in manifest.splits.values() for shard in split.shards}
    differences = [
        f"{os.path.join(folder, name)} is a shard that {MANIFEST_FILE} does not name."
        for name in sorted(tf.io.gfile.listdir(folder))
        if name.endswith(".tfrecord") and name not in known
    ]
    for split in manifest.splits.values():
        counts = np.zeros(len(CLASSES), np.int64)
        pixels = total = squares = 0
        faults = []
        for shard in split.shards:
            try:
                faces = example_codec.read_shard(folder, shard)
                counts += np.bincount(faces.labels[faces.labels >= 0], minlength=len(CLASSES))
                pixels, total = pixels + faces.images.size, total + int(faces.images.sum(dtype=np.int64))
                squares += int(np.square(faces.images, dtype=np.uint16).sum(dtype=np.int64))
            except UserError as error:
                faults.append(str(error))
        if not faults and counts.tolist() != list(split.class_counts.values()):
            faults.append(f"The labels of split {split.name} do not have the class counts of {MANIFEST_FILE}.")
        if not faults and split.name == "train" and pixel_statistics(pixels, total, squares) != manifest.statistics:
            faults.append(f"The pixels of split train do not have the mean and standard deviation of {MANIFEST_FILE}.")
        differences.extend(faults)
    if differences:
        raise UserError("\n".join(differences))
    return manifest
