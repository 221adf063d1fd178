"""The labelled examples of a split."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fer.data import example_codec
from fer.data.manifest import Manifest
from fer.errors import UserError, command_name, join_names
from fer.labels import CLASSES, majority_class


class EvalDataset(NamedTuple):
    """n labelled examples in the order of the shards."""

    images: np.ndarray  # [n, 48, 48, 1] uint8
    labels: np.ndarray  # [n] int32 in 0..C-1
    rows: np.ndarray  # [n] int64, row numbers in the source
    votes: np.ndarray | None  # [n, 10] int32, FER+ votes
    num_unlabelled: int  # examples of the split without a label, which are left out


def read(manifest: Manifest, split: str, labels: str) -> EvalDataset:
    """Reads the labelled examples of a split.

    Args:
      manifest: of the data.
      split: name of the split.
      labels: "fer" for the labels of the data, "ferplus" for the majority of the FER+ votes among FER-2013's classes.

    Raises:
      UserError: there is no such split, it cannot be read, or it has no labels of this kind.
    """
    name = f"The split {split} of {manifest.folder}"
    if not manifest.split(split).examples:
        raise UserError(f"{name} has 0 examples. Evaluate another split.")
    faces = example_codec.read_split(manifest, split)
    if labels == "ferplus":
        if manifest.classes != CLASSES:
            raise UserError(
                f"--labels=ferplus needs the classes of FER-2013, and {manifest.folder} has "
                f"{join_names(manifest.classes)}. Use --labels=fer."
            )
        if faces.votes is None:
            raise UserError(
                f"{name} has no FER+ votes. Convert the data with --ferplus=fer2013new.csv, or use --labels=fer."
            )
        classes = majority_class(faces.votes)
    else:
        classes = faces.labels
        if (classes < 0).all():
            raise UserError(f"{name} has no labels. Use {command_name('predict')} for faces without labels.")
    labelled = classes >= 0
    if not labelled.any():
        raise UserError(f"{name} has no example with a FER+ majority for one of the seven classes. Use --labels=fer.")
    votes = None if faces.votes is None else faces.votes[labelled]
    num_unlabelled = int((~labelled).sum())
    return EvalDataset(faces.images[labelled], classes[labelled], faces.rows[labelled], votes, num_unlabelled)
