"""Weights on disk: one .npz, the arrays in the model's order, under keys that sort in that order."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fer.errors import UserError
from fer.io import files, npz


def save(variables: Sequence[tf.Variable], path: str, dtype: str = "float32") -> None:
    """Writes every weight of a model (trained or not), whole or not at all.

    Args:
      variables: `model.weights` of a model of which nothing is frozen. Where layers hold layers, as KerasCV's blocks
        do, freezing some changes Keras' order of them, and `load` reads into a model without frozen ones.
      path: of the .npz.
      dtype: float32, or float16 to halve the file; the weights are then rounded to 11 bits.
    """
    arrays = {f"{position:05d}": weight.numpy().astype(dtype) for position, weight in enumerate(variables)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    files.write_bytes(path, buffer.getvalue())


def load(model: tf.keras.Model, path: str) -> None:
    """Puts the weights that `save` wrote into a model of the same architecture.

    Raises:
      UserError: the file is missing or damaged, or belongs to another architecture.
    """
    arrays = list(read(path).values())
    check_shapes(model.weights, arrays, path, model.name)
    model.set_weights(arrays)


def check_shapes(wanted: Sequence[tf.Variable], found: Sequence[np.ndarray], path: str, architecture: str) -> None:
    """Holds the arrays of a file against the weights that they are for.

    Raises:
      UserError: they differ in number or in shape; the first that does is named.
    """
    shapes, theirs = [tuple(weight.shape) for weight in wanted], [array.shape for array in found]
    if shapes == theirs:
        return
    at = next((i for i, (a, b) in enumerate(zip(shapes, theirs)) if a != b), min(len(shapes), len(theirs)))
    here = f"{wanted[at].name}, {list(shapes[at])}" if at < len(shapes) else "none"
    there = f"{list(theirs[at])}" if at < len(theirs) else "none"
    raise UserError(
        f"{path} belongs to another architecture than {architecture}: it holds {len(found)} arrays, the model "
        f"{len(wanted)}; the first that differs is number {at} (here {here}; there {there})."
    )


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz by their keys, sorted, numbers in them by their value; nothing is unpickled.

    Raises:
      StorageError: the file cannot be read now.
      UserError: it is missing or damaged.
    """
    arrays = npz.read(path, ".npz of weights", f"There is no weights file {path}.")
    return {key: arrays[key] for key in sorted(arrays, key=_natural)}


def _natural(key: str) -> list[str | int]:
    """What makes "arr_2" come before "arr_10", as np.savez numbers arrays that are given without names."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", key)]
