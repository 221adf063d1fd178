"""The examples of a split that can be scored: those that have a label."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fer.data import example_codec
from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.labels import majority_class


class EvalDataset(NamedTuple):
    """n examples in the order of the shards."""

    images: np.ndarray  # [n, 48, 48, 1] uint8
    labels: np.ndarray  # [n] int32 in 0..6
    rows: np.ndarray  # [n] int64, of the source
    votes: np.ndarray | None  # [n, 10] int32, of FER+
    left_out: int  # examples of the split without a label


def read(manifest: Manifest, split: str, labels: str) -> EvalDataset:
    """Reads the examples that have a label.

    Args:
      manifest, split: which.
      labels: fer takes FER-2013's own, ferplus the class that most of FER+'s people chose.

    Raises:
      UserError: there is no such split, it cannot be read, or it has no labels of this kind.
    """
    where = f"The split {split} of {manifest.folder}"
    if not manifest.split(split).examples:
        raise UserError(f"{where} holds 0 examples: there is nothing to evaluate.")
    faces = example_codec.read_split(manifest, split)
    if labels == "ferplus":
        if faces.votes is None:
            raise UserError(
                f"{where} holds no FER+ votes; convert it with --ferplus=fer2013new.csv, or use --labels=fer."
            )
        chosen = majority_class(faces.votes)
    else:
        chosen = faces.labels
        if (chosen < 0).all():
            raise UserError(f"{where} is not labelled; scripts/predict.py predicts faces without labels.")
    kept = chosen >= 0
    if not kept.any():
        raise UserError(f"{where} has no example whose FER+ votes agree on one of the seven classes.")
    votes = None if faces.votes is None else faces.votes[kept]
    return EvalDataset(faces.images[kept], chosen[kept], faces.rows[kept], votes, int((~kept).sum()))
