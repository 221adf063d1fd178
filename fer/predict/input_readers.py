"""Faces to predict, out of whatever form they come in: tables of pixels, folders of pictures, photos, one picture."""

from __future__ import annotations

import collections
import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fer.convert.readers import archives, csv_reader, file_signatures, formats, image_folder, image_reader
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.image_reader import PictureError
from fer.convert.readers.skipped_files import SkippedFiles
from fer.errors import UserError
from fer.evaluation.requests import STANDARD_INPUT, check_input
from fer.io import files
from fer.io.temp_store import TempStore
from fer.labels import SIDE
from fer.predict import face_detection

HEAD = 4096  # bytes by which a file's kind is known


class StoredPicture(NamedTuple):
    """A picture whose bytes are in a temporary store."""

    store: TempStore
    name: str  # as of `image_folder.Picture`, and so is path
    path: str
    offset: int
    length: int

    @classmethod
    def append(cls, store: TempStore, picture: image_folder.Picture) -> StoredPicture:
        """Appends the bytes of a picture to a store.

        Raises:
          UserError: names the picture; there is no folder for temporary files, or the disk is full.
        """
        offset = store.append(picture.content, picture.name)
        return cls(store, picture.name, picture.path, offset, len(picture.content))

    def read(self) -> image_folder.Picture:
        """Returns the picture, read from the store."""
        return image_folder.Picture(self.name, self.path, self.store.read(self.offset, self.length))


class Photo(NamedTuple):
    """A picture in which faces were found."""

    picture: StoredPicture
    boxes: list[face_detection.Box]
    first: int  # position of its first face among all


class Faces(NamedTuple):
    """n faces in the input's order."""

    names: list[str]  # zero-based row of a table, path of a picture; "#1" and on for the faces of a photo
    images: np.ndarray  # [n, 48, 48, 1] uint8
    photos: list[Photo]
    faceless: list[str]  # photos without a face
    pictures: bool = False  # whether any of them came as a picture, and not as a table's row
    unreadable: Sequence[str] = ()  # a sentence for each picture that cannot be read
    altered: Mapping[str, int] = MappingProxyType({})  # pictures taken whole, by image_reader.ALTERATIONS
    passed_over: Mapping[str, int] = MappingProxyType({})  # files of other kinds, by ending


def read(path: str, faces: str = "auto", fit: str = "stretch") -> Faces:
    """Reads every face at `path`; labels, where there are any, are passed over.

    Args:
      path: a table with a column pixels (the challenge's test.csv, fer2013.csv and their kin) or pictures (of
        `image_reader.FORMAT_NAMES`), in a folder or an archive or alone; compressed or not. "-" reads one picture from
        standard input.
      faces: find looks for faces in every picture, whole takes each picture as one face, made grey and 48x48;
        auto does the latter where a picture has 48x48 pixels already.
      fit: of `fer.config.FITS`, for pictures that are taken whole.

    Returns:
      The faces. A picture that cannot be read is named in `unreadable`, and the others are read.

    Raises:
      UserError: nothing is there, or a row cannot be read; the message names it. Or no face was found.
    """
    names: list[str] = []
    images: list[np.ndarray] = [np.empty([0, SIDE, SIDE, 1], np.uint8)]
    found: list[Photo] = []
    faceless: list[str] = []
    unreadable: list[str] = []
    altered: collections.Counter[str] = collections.Counter()
    pictures, store, passed = False, TempStore(), SkippedFiles()
    for piece in _pieces(path, passed):
        if not isinstance(piece, formats.Pictures):
            unlabelled = dataclasses.replace(piece.header, emotion=None, usage=None)
            block = csv_reader.parse_lines(dataclasses.replace(piece, header=unlabelled))
            if block.rejects:
                raise UserError(f"{block.rejects[0]}; mend or remove that row.")
            names += [str(len(names) + row) for row in block.rows]
            images.append(block.images.reshape(-1, SIDE, SIDE, 1))
            continue
        pictures = True
        for picture in piece.pictures:
            try:
                if faces == "whole" or (faces == "auto" and image_reader.read_size(picture.content) == (SIDE, SIDE)):
                    face, changes = image_reader.read_face(picture.content, fit)
                    altered.update(changes)
                    names.append(picture.path)
                    images.append(face.reshape(1, SIDE, SIDE, 1))
                    continue
                image, changes = image_reader.decode_picture(picture.content, "RGB")
                altered.update(changes)
            except PictureError as error:
                unreadable.append(f"{picture.name} is no picture that can be read ({error})")
                continue
            boxes = face_detection.find(image)
            if not boxes:
                faceless.append(picture.path)
                continue
            found.append(Photo(StoredPicture.append(store, picture), boxes, len(names)))
            names += [f"{picture.path}#{number}" for number in range(1, len(boxes) + 1)]
            images.append(np.array([face_detection.crop(image, box) for box in boxes]))
    if not names:
        raise UserError(_nothing(path, faceless, unreadable))
    return Faces(names, np.concatenate(images), found, faceless, pictures, unreadable, altered, passed.counts())


def _nothing(path: str, faceless: list[str], unreadable: list[str]) -> str:
    """Returns why there is no face to predict."""
    if unreadable:
        others = f", and no face was found in {len(faceless):,} others" if faceless else ""
        return f"{_some(unreadable)}{others}: repair or remove {'them' if len(unreadable) > 1 else 'it'}."
    if faceless:
        return f"No face was found in {_some(faceless)}; --faces=whole takes a picture as one face."
    return f"{path} holds 0 faces: there is nothing to predict."


def _pieces(path: str, passed: SkippedFiles) -> Iterable[formats.Chunk]:
    """As `fer.convert.readers.formats.iter_chunks`, but a single picture may stand alone."""
    if path == STANDARD_INPUT:
        return [formats.Pictures((_standard_input(),))]
    check_input(path)
    if tf.io.gfile.isdir(path):
        return formats.iter_chunks(path, HashingReader(), passed)
    name = os.path.basename(path)
    archives.check_file(path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            if not image_reader.is_picture(name, file.read(HEAD)):
                return formats.iter_chunks(path, HashingReader(), passed)
            file.seek(0)
            return [formats.Pictures((image_folder.Picture(path, name, file.read(image_reader.MAX_BYTES + 1)),))]
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"Cannot read {path}: {files.error_message(error)}.") from error


def _standard_input() -> image_folder.Picture:
    if sys.stdin is None:
        raise UserError("Standard input is closed: --input=- reads one picture from it.")
    try:
        content = sys.stdin.buffer.read(image_reader.MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"Cannot read standard input: {files.error_message(error)}.") from error
    if len(content) > image_reader.MAX_BYTES:
        raise UserError(
            f"Standard input holds more than {image_reader.MAX_BYTES:,} bytes: --input=- reads one picture."
        )
    if not image_reader.is_picture("", content[:HEAD]):
        kind = file_signatures.identify(content[:HEAD])
        found = f"is {kind[0]}" if kind else "is no picture"
        raise UserError(
            f"Standard input {found}: --input=- reads the bytes of one picture ({image_reader.FORMAT_NAMES})."
        )
    return image_folder.Picture("standard input", "stdin", content)


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
