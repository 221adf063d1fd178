"""What all runners share: faces out of one .npz, probabilities into another, and the time between."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from typing import Callable

import numpy as np

BATCH = 64


def run(load: Callable[..., tuple[Callable[[np.ndarray], np.ndarray], int]]) -> None:
    """Runs a program whose arguments are the file of faces, the file to write, and what `load` is to be told.

    The first file holds images [n, 48, 48] uint8. The second gets probabilities [n, 7] in FER-2013's order of classes,
    the seconds that they took after a first batch that is not counted, and the network's number of parameters.

    Args:
      load: makes the function from images [b, 48, 48] uint8 to probabilities [b, 7], and counts its parameters.
    """
    faces, results, *told = sys.argv[1:]
    with np.load(faces) as arrays:
        images = arrays["images"]
    classify, parameters = load(*told)
    classify(images[:BATCH])
    started = time.perf_counter()
    parts = [classify(images[first : first + BATCH]) for first in range(0, len(images), BATCH)]
    seconds = time.perf_counter() - started
    np.savez(results, probabilities=np.concatenate(parts), seconds=seconds, parameters=parameters)


def file_of(package: str, path: str) -> str:
    """Where a file of an installed package is; the package itself is not imported, for it wants more than its file."""
    return str(importlib.metadata.distribution(package).locate_file(path))
