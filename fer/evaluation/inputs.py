"""Faces to predict, out of whatever form they come in: tables of pixels, folders of pictures, photos, one picture."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from fer import files
from fer.data import containers, folders, sources, table
from fer.data.pixels import SIDE
from fer.data.tally import Tally
from fer.errors import UserError
from fer.evaluation import photos
from fer.evaluation.picture_spool import PictureSpool, Spooled

STANDARD_INPUT = "-"
FACES = ("auto", "find", "whole")  # what a picture holds; see `read`


class Photo(NamedTuple):
    """A picture in which faces were found."""

    picture: Spooled
    boxes: list[photos.Box]
    first: int  # position of its first face among all


class Faces(NamedTuple):
    """n faces in the input's order."""

    names: list[str]  # zero-based row of a table, path of a picture; "#1" and on for the faces of a photo
    images: np.ndarray  # [n, 48, 48, 1] uint8
    photos: list[Photo]
    faceless: list[str]  # photos without a face
    pictures: bool = False  # whether any of them came as a picture, and not as a table's row


def read(path: str, faces: str = "auto") -> Faces:
    """Reads every face at `path`; labels, where there are any, are passed over.

    Args:
      path: a table with a column pixels (the challenge's test.csv, fer2013.csv and their kin) or pictures (JPEG,
        PNG), in a folder or an archive or alone; compressed or not. "-" reads one picture from standard input.
      faces: find looks for faces in every picture, whole takes each picture as one face, made grey and 48x48;
        auto does the latter where a picture has 48x48 pixels already.

    Raises:
      UserError: nothing is there, or a row or picture cannot be read; the message names it. Or no face was found.
    """
    names: list[str] = []
    images: list[np.ndarray] = [np.empty([0, SIDE, SIDE, 1], np.uint8)]
    found: list[Photo] = []
    faceless: list[str] = []
    pictures, spool = False, PictureSpool()
    for piece in _pieces(path):
        if not isinstance(piece, sources.Pictures):
            unlabelled = dataclasses.replace(piece.header, emotion=None, usage=None)
            block = table.parse(dataclasses.replace(piece, header=unlabelled))
            if block.rejects:
                raise UserError(f"{block.rejects[0]}; mend or remove that row.")
            names += [str(len(names) + row) for row in block.rows]
            images.append(block.images.reshape(-1, SIDE, SIDE, 1))
            continue
        pictures = True
        for picture in piece.pictures:
            if faces == "whole" or (faces == "auto" and _is_face(picture)):
                names.append(picture.path)
                images.append(_face(picture))
                continue
            boxes, cuts = _faces(picture)
            if not boxes:
                faceless.append(picture.path)
                continue
            found.append(Photo(spool.add(picture), boxes, len(names)))
            names += [f"{picture.path}#{number}" for number in range(1, len(boxes) + 1)]
            images.append(cuts)
    if not names:
        raise UserError(
            f"No face was found in {_some(faceless)}; --faces=whole takes a picture as one face."
            if faceless
            else f"{path} holds 0 faces: there is nothing to predict."
        )
    return Faces(names, np.concatenate(images), found, faceless, pictures)


def _pieces(path: str) -> Iterable[sources.Piece]:
    """As `fer.data.sources.pieces`, but a single picture may stand alone."""
    if path == STANDARD_INPUT:
        return [sources.Pictures((_standard_input(),))]
    if not tf.io.gfile.exists(path):
        raise UserError(
            f"There is no {path}; --input names a table of pixels, a picture, or a folder or archive of them."
        )
    if tf.io.gfile.isdir(path):
        return sources.pieces(path, Tally())
    name = os.path.basename(path)
    containers.check_file(path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            if not folders.is_picture(name, file.read(len(b"\x89PNG\r\n\x1a\n"))):
                return sources.pieces(path, Tally())
            file.seek(0)
            return [sources.Pictures((folders.Picture(path, name, file.read(folders.MOST_BYTES + 1)),))]
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"Cannot read {path}: {files.reason(error)}.") from error


def _standard_input() -> folders.Picture:
    content = sys.stdin.buffer.read(folders.MOST_BYTES + 1)
    if len(content) > folders.MOST_BYTES:
        raise UserError(f"Standard input holds more than {folders.MOST_BYTES:,} bytes: --input=- reads one picture.")
    if not folders.is_picture("", content):
        raise UserError("Standard input is no JPEG or PNG: --input=- reads the bytes of one picture.")
    return folders.Picture("standard input", "stdin", content)


def _is_face(picture: folders.Picture) -> bool:
    """Whether a picture has a face's size; one that cannot be read is left to who reads it."""
    try:
        return Image.open(io.BytesIO(picture.content), formats=("JPEG", "PNG")).size == (SIDE, SIDE)
    except photos.UNREADABLE:
        return False


def _faces(picture: folders.Picture) -> tuple[list[photos.Box], np.ndarray]:
    """Where the faces of a photo are, and what they look like, [n, 48, 48, 1] uint8."""
    image = photos.opened(picture)
    boxes = photos.find(image)
    return boxes, np.array([photos.cut(image, box) for box in boxes])


def _face(picture: folders.Picture) -> np.ndarray:
    """A picture as [1, 48, 48, 1] uint8."""
    try:
        face, _, _ = folders.decode(picture.content)
    except photos.UNREADABLE as error:
        raise photos.unreadable(picture, error) from error
    return face.reshape(1, SIDE, SIDE, 1)


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
