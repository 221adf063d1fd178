"""Finds the faces of other splits that share their photograph with a face of the train split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fer.convert.audit import image_hashes, photo_matching
from fer.convert.audit.duplicates import NEARLY_BLANK_STD
from fer.data import example_codec, photo_overlap
from fer.data.example_codec import Faces
from fer.data.manifest import Manifest, read_manifest
from fer.data.photo_overlap import PhotoOverlap
from fer.errors import UserError
from fer.labels import PIXELS

_CHUNK = 4096  # faces converted to floating point at once


def find_photo_overlap(
    folder: str, progress: Callable[[int, int], None] = lambda count, total: None
) -> dict[str, PhotoOverlap]:
    """Compares all faces of the other splits with the train split, and writes photo_overlap.json into `folder`.

    Nearly blank faces and train faces without a label are left out.

    Args:
      folder: of shards.
      progress: called after each batch with the number of faces in it and in total.

    Returns:
      The faces that share their photograph, by split.

    Raises:
      UserError: the folder cannot be read or written, or has no train split or no other split.
    """
    manifest = read_manifest(folder)
    others = _check_splits(manifest)
    train = _select(example_codec.read_split(manifest, "train"))
    faces = {name: _select(example_codec.read_split(manifest, name), labelled=False) for name in others}
    total = sum(each.examples for each in faces.values())
    overlaps = {}
    for name, each in faces.items():
        overlaps[name] = _match(each, train, manifest.split(name).examples, lambda count: progress(count, total))
    details = {"method": photo_matching.METHOD, "threshold": photo_matching.THRESHOLD}
    photo_overlap.write(manifest, overlaps, details)
    return overlaps


def _check_splits(manifest: Manifest) -> list[str]:
    """Returns the names of the splits other than train.

    Raises:
      UserError: there is none, or no train split.
    """
    others = [name for name in manifest.splits if name != "train"]
    if "train" not in manifest.splits or not others:
        has = ", ".join(manifest.splits) or "none"
        raise UserError(f"{manifest.folder} has no train split and another one to compare with it; its splits: {has}.")
    return others


def _select(faces: Faces, labelled: bool = True) -> Faces:
    """Returns the faces that are not nearly blank, and with `labelled` have a label."""
    pixels = faces.images.reshape(-1, PIXELS)
    parts = [image_hashes.hash_images(pixels[start : start + _CHUNK]) for start in range(0, len(pixels), _CHUNK)]
    kept = image_hashes.concatenate(parts).deviations() >= NEARLY_BLANK_STD
    if labelled:
        kept &= faces.labels >= 0
    return Faces(faces.images[kept], faces.labels[kept], faces.rows[kept], None)


def _match(faces: Faces, train: Faces, examples: int, progress: Callable[[int], None]) -> PhotoOverlap:
    """Returns the faces, of a split of `examples`, that correlate with a train face by the threshold or more."""
    found = photo_matching.Matches(np.empty(0, np.int64), np.empty(0, np.float32))
    if train.examples:
        found = photo_matching.find_matches(faces.images[..., 0], train.images[..., 0], progress)
    shared = np.flatnonzero(found.correlations >= photo_matching.THRESHOLD)
    shared = shared[np.argsort(faces.rows[shared])]
    first: dict[bytes, int] = {}  # of identical train faces, whose correlations are equal up to rounding
    digests = image_hashes.digest_images(train.images)
    same = np.array([first.setdefault(digest, at) for at, digest in enumerate(digests)], np.int64)
    of_train = same[found.positions[shared]]
    return PhotoOverlap(
        faces.rows[shared], train.rows[of_train], train.labels[of_train], found.correlations[shared], examples
    )
