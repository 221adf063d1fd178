"""Weights on disk: one .npz with the arrays in the model's order, under keys that sort in that order."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from fer.errors import UserError
from fer.io import files, npz


def save(variables: Sequence[tf.Variable], path: str, dtype: str = "float32") -> None:
    """Writes all weights of a model, trainable or not, atomically; see `to_bytes`."""
    files.write_bytes(path, to_bytes(variables, dtype))


def to_bytes(variables: Sequence[tf.Variable], dtype: str = "float32") -> bytes:
    """Returns the content of the file that `save` writes.

    Args:
      variables: `model.weights` of a model without frozen layers. In nested layers, such as KerasCV's blocks, frozen
        layers change Keras' order of the weights, and `load` expects the order without.
      dtype: float32, or float16 to halve the file; the weights are then rounded to 11 bits.
    """
    return pack([weight.numpy().astype(dtype) for weight in variables], np.savez)


def pack(arrays: Sequence[np.ndarray], savez: Callable[..., None]) -> bytes:
    """Returns the content of an .npz from which `read` returns the arrays in their order.

    Args:
      arrays: of any data types.
      savez: `np.savez` or `np.savez_compressed`.
    """
    buffer = io.BytesIO()
    savez(buffer, **{f"{position:05d}": array for position, array in enumerate(arrays)})
    return buffer.getvalue()


def load(model: tf.keras.Model, path: str) -> None:
    """Loads weights that `save` wrote into a model of the same architecture.

    Raises:
      UserError: the file is missing or damaged, holds NaN or infinite values, or belongs to another architecture.
    """
    arrays = list(read(path).values())
    check_shapes(model.weights, arrays, path, model.name)
    model.set_weights(arrays)


def check_shapes(wanted: Sequence[tf.Variable], found: Sequence[np.ndarray], path: str, architecture: str) -> None:
    """Checks number and shapes of a file's arrays against the weights of a model.

    Raises:
      UserError: they differ; the message names the first array that does.
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
    """Reads the arrays of an .npz by key, in natural order of the keys; nothing is unpickled.

    Raises:
      StorageError: the file cannot be read now.
      UserError: it is missing or damaged, or holds NaN or infinite values.
    """
    arrays = npz.read(path, ".npz of weights", f"There is no weights file {path}.")
    check_finite(arrays, path)
    return {key: arrays[key] for key in sorted(arrays, key=_natural_key)}


def check_finite(arrays: Mapping[str, np.ndarray], path: str) -> None:
    """Checks that no weight is NaN or infinite.

    Raises:
      UserError: one is; the message names its array.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{path} holds NaN or infinite weights in the array {name}: name an undamaged file.")


def _natural_key(key: str) -> list[str | int]:
    """Returns a sort key that puts "arr_2" before "arr_10", the names that np.savez gives to unnamed arrays."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", key)]
