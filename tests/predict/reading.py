"""Reads inputs as the program predict does."""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np

from fer.labels import CLASSES, SIDE
from fer.predict import classification, face_detection, input_readers, predict


class Faces(NamedTuple):
    """The faces of an input, in its order, and what was found besides them."""

    names: list[str]  # ids in the CSV file
    images: np.ndarray  # [n, 48, 48, 1] uint8
    results: list[classification.Result]
    unreadable: list[str]
    altered: collections.Counter[str]
    skipped: collections.Counter[str]
    summary: predict.Summary


def read(path: str, faces: str = "auto", fit: str = "stretch") -> Faces:
    """Reads an input and detects its faces.

    Raises:
      UserError: there are no faces.
    """
    images = [np.empty([0, SIDE, SIDE, 1], np.uint8)]

    def compute(batch: np.ndarray) -> np.ndarray:
        images.append(batch)
        return np.zeros([len(batch), len(CLASSES)], np.float32)

    summary = predict.Summary([path])
    sources = input_readers.read([path], summary.skipped)
    results = []
    for result in classification.classify(
        sources, lambda source: face_detection.extract_faces(source.picture, faces, fit), compute, CLASSES
    ):
        summary.add(result)
        results.append(result)
    summary.check(needs_faces=True)
    return Faces(
        [
            result.source.name if face.box is None else f"{result.source.name}#{number}"
            for result in results
            for number, face in enumerate(result.faces, start=1)
        ],
        np.concatenate(images),
        results,
        [result.error for result in results if result.error],
        collections.Counter(name for result in results for name in result.altered),
        summary.skipped,
        summary,
    )
