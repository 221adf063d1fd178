"""Faces to predict, out of whatever form they come in: tables of pixels, folders of pictures, one picture."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
from PIL import Image

from fer import files
from fer.data import folders, sources, table
from fer.data.pixels import SIDE
from fer.data.tally import Tally
from fer.errors import UserError


def read(path: str) -> tuple[list[str], np.ndarray]:
    """Reads every face at `path`; labels, where there are any, are passed over.

    Args:
      path: a table with a column pixels (the challenge's test.csv, fer2013.csv and their kin) or pictures (JPEG,
        PNG), in a folder or an archive or alone; compressed or not. Pictures are made grey and 48x48; no face is
        looked for in them.

    Returns:
      n names, the zero-based row in a table or the path of a picture below the folder, and uint8 [n, 48, 48, 1], both
      in the input's order (pictures by name).

    Raises:
      UserError: nothing is there, or a row or picture is no face; the message names it.
    """
    if not tf.io.gfile.exists(path):
        raise UserError(
            f"There is no {path}; --input names a table of pixels, a picture, or a folder or archive of them."
        )
    names: list[str] = []
    faces: list[np.ndarray] = [np.empty([0, SIDE, SIDE, 1], np.uint8)]
    for piece in _pieces(path):
        if isinstance(piece, sources.Pictures):
            names += [picture.path for picture in piece.pictures]
            faces += [_face(picture) for picture in piece.pictures]
        else:
            block = table.parse(piece)
            if block.rejects:
                raise UserError(f"{block.rejects[0]}; mend or remove that row.")
            names += [str(len(names) + row) for row in block.rows]
            faces.append(block.images.reshape(-1, SIDE, SIDE, 1))
    if not names:
        raise UserError(f"{path} holds 0 faces: there is nothing to predict.")
    return names, np.concatenate(faces)


def _pieces(path: str) -> Iterable[sources.Piece]:
    """As `fer.data.sources.pieces`, but a single picture may stand alone."""
    if tf.io.gfile.isdir(path):
        return sources.pieces(path, Tally())
    name = os.path.basename(path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            if not folders.is_picture(name, file.read(len(b"\x89PNG\r\n\x1a\n"))):
                return sources.pieces(path, Tally())
            file.seek(0)
            return [sources.Pictures((folders.Picture(path, name, file.read()),))]
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"Cannot read {path}: {files.reason(error)}.") from error


def _face(picture: folders.Picture) -> np.ndarray:
    """A picture as [1, 48, 48, 1] uint8."""
    try:
        face, _, _ = folders.decode(picture.content)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{picture.name} is no picture that can be read ({str(error) or type(error).__name__})."
        ) from error
    return face.reshape(1, SIDE, SIDE, 1)
