"""Verification of a folder of shards against its manifest, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from fer.convert.audit import image_hashes
from fer.data import example_codec
from fer.data.manifest import MANIFEST_FILE, Manifest, Split, pixel_statistics, read_manifest
from fer.errors import UserError
from fer.io import files


def verify(folder: str) -> Manifest:
    """Checks every shard, the pixel statistics and the rows that are listed as identical to a train image.

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
        for name in sorted(files.listdir(folder))
        if name.endswith(".tfrecord") and name not in known
    ]
    train: set[bytes] | None = set()
    for split in sorted(manifest.splits.values(), key=lambda split: split.name != "train"):
        found = list(_find_differences(manifest, split, train))
        if split.name == "train" and found:
            train = None
        differences.extend(found)
    if differences:
        raise UserError("\n".join(differences))
    return manifest


def _find_differences(manifest: Manifest, split: Split, train: set[bytes] | None) -> Iterator[str]:
    """Yields the differences of a split from the manifest. The figures are checked if all shards are whole.

    Args:
      manifest: of the folder.
      split: to read.
      train: digests of the images of the train split, which adds its own; None if that split differs.
    """
    counts = np.zeros(len(manifest.classes), np.int64)
    pixels = total = squares = 0
    duplicates: list[int] = []
    is_whole = True
    for shard in split.shards:
        try:
            faces = example_codec.read_shard(manifest.folder, shard, len(manifest.classes))
        except UserError as error:
            is_whole = False
            yield str(error)
            continue
        counts += np.bincount(faces.labels[faces.labels >= 0], minlength=len(manifest.classes))
        pixels, total = pixels + faces.images.size, total + int(faces.images.sum(dtype=np.int64))
        squares += int(np.square(faces.images, dtype=np.uint16).sum(dtype=np.int64))
        digests = image_hashes.digest_images(faces.images)
        if split.name == "train" and train is not None:
            train.update(digests)
        elif train:
            duplicates += [int(row) for row, digest in zip(faces.rows, digests) if digest in train]
    if not is_whole:
        return
    if counts.tolist() != list(split.class_counts.values()):
        yield f"The labels of split {split.name} do not have the class counts of {MANIFEST_FILE}."
    if split.name == "train" and pixel_statistics(pixels, total, squares) != manifest.statistics:
        yield f"The pixels of split train do not have the mean and standard deviation of {MANIFEST_FILE}."
    if split.train_duplicates is not None and train is not None and set(duplicates) != set(split.train_duplicates):
        yield f"The images of split {split.name} do not have the train_duplicates of {MANIFEST_FILE}."
