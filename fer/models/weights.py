"""Weights on disk: one .npz, the arrays in the model's order, under keys that sort in that order."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import tensorflow as tf

from fer import files
from fer.errors import UserError


def save(model: tf.keras.Model, path: str) -> None:
    """Writes every weight of `model` (trained or not), float32, whole or not at all."""
    arrays = {f"{position:05d}": array for position, array in enumerate(model.get_weights())}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    files.write_bytes(path, buffer.getvalue())


def load(model: tf.keras.Model, path: str) -> None:
    """Puts the weights that `save` wrote into a model of the same architecture.

    Raises:
      UserError: the file is missing or damaged, or belongs to another architecture.
    """
    arrays = _read(path)
    wanted = [tuple(weight.shape) for weight in model.weights]
    found = [array.shape for array in arrays]
    if wanted != found:
        at = next((i for i, (a, b) in enumerate(zip(wanted, found)) if a != b), min(len(wanted), len(found)))
        name = model.weights[at].name if at < len(wanted) else "none"
        raise UserError(
            f"{path} belongs to another architecture than {model.name}: it holds {len(found)} arrays, the model "
            f"{len(wanted)}; the first that differs is number {at} (here {name})."
        )
    model.set_weights(arrays)


def _read(path: str) -> list[np.ndarray]:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return [archive[key] for key in sorted(archive.files)]
    except tf.errors.NotFoundError as error:
        raise UserError(f"There is no weights file {path}.") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, tf.errors.OpError) as error:
        raise UserError(f"{path} is no readable .npz of weights: {files.reason(error)}.") from error
