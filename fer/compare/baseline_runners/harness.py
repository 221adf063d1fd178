"""Shared code of the runners: reads faces from an .npz file, writes probabilities and times to another."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Callable

import numpy as np

BATCH = 64


def run(load: Callable[..., tuple[Callable[[np.ndarray], np.ndarray], int]]) -> None:
    """Runs a program whose arguments are the file of faces, the file to write, and the arguments of `load`.

    The first file holds images [n, 48, 48] uint8. The program writes to the second file: probabilities [n, 7] in the
    class order of FER-2013, seconds (of all faces, after an untimed first batch) and parameters (their number).

    Args:
      load: returns a function from images [b, 48, 48] uint8 to probabilities [b, 7], and its number of parameters.
    """
    faces, results, *load_args = sys.argv[1:]
    with np.load(faces) as arrays:
        images = arrays["images"]
    classify, parameters = load(*load_args)
    classify(images[:BATCH])
    started = time.perf_counter()
    parts = [classify(images[first : first + BATCH]) for first in range(0, len(images), BATCH)]
    seconds = time.perf_counter() - started
    np.savez(results, probabilities=np.concatenate(parts), seconds=seconds, parameters=parameters)


def file_of(package: str, path: str) -> str:
    """Returns the path of a file of an installed package without importing it, which would need its dependencies."""
    return str(importlib.metadata.distribution(package).locate_file(path))
