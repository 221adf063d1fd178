"""Detects and classifies the faces of any number of pictures, a batch of faces at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from fer.convert.readers import image_reader
from fer.evaluation import inference
from fer.labels import SIDE
from fer.predict.box_file import BoxError
from fer.predict.face_detection import Box, FaceCrops

MAX_HELD_BYTES = 32 << 20  # of encoded pictures that wait for a full batch


class Source(NamedTuple):
    """A picture, or a row of a table, to classify."""

    path: str  # as given on the command line; below a folder, with the folder's path
    name: str  # identifies it in a CSV file: row of a table from 0, or path below the input
    picture: bytes | Image.Image = b""  # encoded or decoded
    face: np.ndarray | None = None  # uint8 [48, 48, 1], of a row
    row: int | None = None  # of a table, from 0
    error: str = ""  # reason why it cannot be read, with its path

    @property
    def title(self) -> str:
        """Returns the path, with the row of a table."""
        return self.path if self.row is None else f"{self.path} row {self.row}"


@dataclasses.dataclass(frozen=True)
class Face:
    """A face with its prediction."""

    source: str  # path of the picture, or "picture 1", "picture 2", ...
    box: Box | None  # left, top, width and height in pixels of the upright picture; None if the picture is one face
    label: int  # index of the most probable class
    name: str  # of this class
    probabilities: dict[str, float]  # by class, in label order


class Result(NamedTuple):
    """A picture with the faces found in it."""

    source: Source
    faces: list[Face]  # from left to right
    altered: tuple[str, ...] = ()  # of image_reader.ALTERATIONS
    error: str = ""  # reason why it cannot be read, with its path


def classify(
    sources: Iterable[Source],
    extract: Callable[[Source], FaceCrops],
    compute: Callable[[np.ndarray], np.ndarray],
    classes: Sequence[str],
) -> Iterator[Result]:
    """Detects and classifies the faces of pictures, which are read as they are needed.

    Args:
      sources: of any number.
      extract: returns the faces of a picture, or raises `image_reader.PictureError` or `BoxError`; a row is a face.
      compute: maps faces uint8 [n, 48, 48, 1] to probabilities float32 [n, C].
      classes: names of the C classes.

    Yields:
      A result for each source, in their order.
    """
    held: list[tuple[Source, FaceCrops | None, str]] = []
    count = size = 0
    for source in sources:
        crops, error = None, source.error
        if source.face is not None:
            crops = FaceCrops(source.face[np.newaxis], None, (SIDE, SIDE), ())
        elif not error:
            try:
                crops = extract(source)
            except image_reader.PictureError as reason:
                error = f"{source.path} is no picture that can be read ({reason})"
            except BoxError as reason:
                error = str(reason)
        more = 0 if crops is None else len(crops.images)
        if held and (count + more > inference.BATCH or size >= MAX_HELD_BYTES):
            yield from _classify_batch(held, compute, classes)
            held, count, size = [], 0, 0
        held.append((source, crops, error))
        count += more
        size += len(source.picture) if isinstance(source.picture, bytes) else 0
    yield from _classify_batch(held, compute, classes)


def _classify_batch(
    held: Sequence[tuple[Source, FaceCrops | None, str]],
    compute: Callable[[np.ndarray], np.ndarray],
    classes: Sequence[str],
) -> Iterator[Result]:
    images = [crops.images for _, crops, _ in held if crops is not None and len(crops.images)]
    probabilities = iter(compute(np.concatenate(images)) if images else ())
    for source, crops, error in held:
        if crops is None:
            yield Result(source, [], error=error)
            continue
        boxes = [None] if crops.boxes is None else crops.boxes
        faces = [make_face(source.path, box, next(probabilities), classes) for box in boxes]
        yield Result(source, faces, crops.altered)


def make_face(path: str, box: Box | None, probabilities: np.ndarray, classes: Sequence[str]) -> Face:
    """Returns a face with its prediction, from probabilities [C]."""
    label = int(probabilities.argmax())
    return Face(path, box, label, classes[label], dict(zip(classes, probabilities.tolist())))
