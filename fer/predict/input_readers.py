"""Reads faces to predict from tables of pixels, folders and archives of pictures, photos, or a single picture."""

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

from fer.convert.readers import archives, csv_reader, formats, image_folder, image_reader, unsupported_files
from fer.convert.readers.hashing_reader import HashingReader
from fer.convert.readers.image_reader import PictureError
from fer.convert.readers.unsupported_files import SkippedFiles
from fer.errors import UserError
from fer.evaluation.eval_options import STANDARD_INPUT, check_input
from fer.io import files
from fer.io.temp_store import TempStore
from fer.labels import SIDE
from fer.predict import face_detection

HEAD_BYTES = 4096  # read to identify the format of a file


class StoredPicture(NamedTuple):
    """A picture whose bytes are in a temporary store."""

    store: TempStore
    name: str  # as in `image_folder.Picture`, like path
    path: str
    offset: int
    length: int

    @classmethod
    def append(cls, store: TempStore, picture: image_folder.Picture) -> StoredPicture:
        """Appends the bytes of a picture to a store.

        Raises:
          UserError: there is no folder for temporary files, or the disk is full. The message names the picture.
        """
        offset = store.append(picture.content, picture.name)
        return cls(store, picture.name, picture.path, offset, len(picture.content))

    def read(self) -> image_folder.Picture:
        """Returns the picture, read from the store."""
        return image_folder.Picture(self.name, self.path, self.store.read(self.offset, self.length))


class Photo(NamedTuple):
    """A picture with detected faces."""

    picture: StoredPicture
    boxes: list[face_detection.Box]
    first: int  # position of its first face among all faces


class Faces(NamedTuple):
    """n faces in the order of the input."""

    names: list[str]  # row of a table from 0, or path of a picture, with "#1", "#2", ... for the faces of a photo
    images: np.ndarray  # [n, 48, 48, 1] uint8
    photos: list[Photo]
    faceless: list[str]  # photos without a face
    pictures: bool = False  # whether a face comes from a picture, not from a table
    unreadable: Sequence[str] = ()  # a message for each picture that cannot be read
    altered: Mapping[str, int] = MappingProxyType({})  # number of pictures by alteration of image_reader.ALTERATIONS
    skipped: Mapping[str, int] = MappingProxyType({})  # number of files of other formats by file extension


def read(path: str, faces: str = "auto", fit: str = "stretch") -> Faces:
    """Reads every face at `path`; labels are ignored.

    Args:
      path: a table with a column pixels (such as test.csv of the challenge or fer2013.csv) or pictures (of
        `image_reader.FORMAT_NAMES`), alone, in a folder or in an archive; compressed or not. "-" reads one picture from
        the standard input.
      faces: "find" detects faces in every picture; "whole" takes each picture as one face, converted to 48x48 grey
        pixels; "auto" is "whole" for pictures of 48x48 pixels and "find" for others.
      fit: of `fer.config.FITS`, for pictures taken whole.

    Returns:
      The faces. Pictures that cannot be read are listed in `unreadable`, and the others are read.

    Raises:
      UserError: the input does not exist, a row of a table cannot be read, or there are no faces.
    """
    collector, skipped = _FaceCollector(faces, fit), SkippedFiles()
    for chunk in _iter_chunks(path, skipped):
        if isinstance(chunk, formats.Pictures):
            collector.has_pictures = True
            for picture in chunk.pictures:
                collector.add_picture(picture)
        else:
            collector.add_rows(chunk)
    if not collector.names:
        raise UserError(_no_faces_message(path, collector.faceless, collector.unreadable))
    return collector.to_faces(skipped)


class _FaceCollector:
    """Collects faces from table rows and pictures in the order of the input."""

    def __init__(self, faces: str, fit: str):
        self.names: list[str] = []
        self.faceless: list[str] = []
        self.unreadable: list[str] = []
        self.has_pictures = False
        self._faces, self._fit = faces, fit
        self._images: list[np.ndarray] = [np.empty([0, SIDE, SIDE, 1], np.uint8)]
        self._photos: list[Photo] = []
        self._alterations: collections.Counter[str] = collections.Counter()
        self._store = TempStore()

    def add_rows(self, chunk: csv_reader.Lines) -> None:
        """Adds the rows of a part of a table, without its labels.

        Raises:
          UserError: names the first row that cannot be read.
        """
        unlabelled = dataclasses.replace(chunk.header, emotion=None, usage=None)
        block = csv_reader.parse_lines(dataclasses.replace(chunk, header=unlabelled))
        if block.rejects:
            raise UserError(f"{block.rejects[0]}. Repair or remove this row.")
        self.names += [str(len(self.names) + row) for row in block.rows]
        self._images.append(block.images.reshape(-1, SIDE, SIDE, 1))

    def add_picture(self, picture: image_folder.Picture) -> None:
        """Adds a picture as one face, or the faces detected in it; records pictures without a face or unreadable."""
        try:
            found = face_detection.extract_faces(picture.content, self._faces, self._fit)
        except PictureError as error:
            self.unreadable.append(f"{picture.name} is no picture that can be read ({error})")
            return
        self._alterations.update(found.altered)
        self._images.append(found.images)
        if found.boxes is None:
            self.names.append(picture.path)
        elif found.boxes:
            self._photos.append(Photo(StoredPicture.append(self._store, picture), found.boxes, len(self.names)))
            self.names += [f"{picture.path}#{number}" for number in range(1, len(found.boxes) + 1)]
        else:
            self.faceless.append(picture.path)

    def to_faces(self, skipped: SkippedFiles) -> Faces:
        """Returns the collected faces."""
        return Faces(
            self.names,
            np.concatenate(self._images),
            self._photos,
            self.faceless,
            self.has_pictures,
            self.unreadable,
            self._alterations,
            skipped.counts(),
        )


def _no_faces_message(path: str, faceless: list[str], unreadable: list[str]) -> str:
    """Returns why there is no face to predict, and what to do."""
    if unreadable:
        others = f", and no face was found in {len(faceless):,} others" if faceless else ""
        return f"{_first_names(unreadable)}{others}. Repair or remove {'them' if len(unreadable) > 1 else 'it'}."
    if faceless:
        return f"No face was found in {_first_names(faceless)}. --faces=whole takes a picture as one face."
    return f"{path} holds 0 faces. Name a table with rows, or pictures of faces."


def _iter_chunks(path: str, skipped: SkippedFiles) -> Iterable[formats.Chunk]:
    """Yields chunks like `fer.convert.readers.formats.iter_chunks`, and also reads a single picture.

    Raises:
      UserError: the input does not exist or cannot be read.
    """
    if path == STANDARD_INPUT:
        return [formats.Pictures((_read_standard_input(),))]
    check_input(path)
    if tf.io.gfile.isdir(path):
        return formats.iter_chunks(path, HashingReader(), skipped)
    name = os.path.basename(path)
    archives.check_file(path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            if not image_reader.is_picture(name, file.read(HEAD_BYTES)):
                return formats.iter_chunks(path, HashingReader(), skipped)
            file.seek(0)
            return [formats.Pictures((image_folder.Picture(path, name, file.read(image_reader.MAX_BYTES + 1)),))]
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"Cannot read {path}: {files.error_message(error)}.") from error


def _read_standard_input() -> image_folder.Picture:
    """Reads one picture from the standard input.

    Raises:
      UserError: the standard input is closed, cannot be read, is too large or is no picture.
    """
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
    if not image_reader.is_picture("", content[:HEAD_BYTES]):
        kind = unsupported_files.identify(content[:HEAD_BYTES])
        found = f"is {kind[0]}" if kind else "is no picture"
        raise UserError(
            f"Standard input {found}: --input=- reads the bytes of one picture ({image_reader.FORMAT_NAMES})."
        )
    return image_folder.Picture("standard input", "stdin", content)


def _first_names(names: list[str], count: int = 3) -> str:
    """Joins the first `count` names and says how many more there are."""
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
