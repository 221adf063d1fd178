"""Factories of input files: random faces, and files in the forms of FER-2013."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

USAGES = ("Training", "PublicTest", "PrivateTest")
REAL = pathlib.Path(os.environ.get("FER_SHARED", "../shared")) / "data"


def noise(count: int, seed: int = 0) -> np.ndarray:
    """Returns random images, uint8 [count, 2304], which contain every pixel value."""
    return np.random.default_rng(seed).integers(0, 256, (count, 2304), dtype=np.uint8)


def pixel_text(image: Iterable[int]) -> str:
    """Returns an image in the form of the column `pixels`."""
    return " ".join(map(str, image))


def make_csv(images: np.ndarray, labels: Sequence[int] | None = None, usages: Sequence[str] | None = None) -> str:
    """Returns the text of a fer2013.csv. By default labels and usages cycle through all values."""
    labels = [i % 7 for i in range(len(images))] if labels is None else labels
    usages = [USAGES[i % 3] for i in range(len(images))] if usages is None else usages
    rows = [f"{label},{pixel_text(image)},{usage}\n" for image, label, usage in zip(images, labels, usages)]
    return "emotion,pixels,Usage\n" + "".join(rows)


def encode_image(image: np.ndarray, kind: str = "PNG", size: int = 48, mode: str = "L") -> bytes:
    """Encodes an image, uint8 [2304], as an image file."""
    file = io.BytesIO()
    Image.fromarray(image.reshape(48, 48)).resize((size, size), Image.Resampling.NEAREST).convert(mode).save(file, kind)
    return file.getvalue()


def write_file(path: pathlib.Path, content: str | bytes) -> str:
    """Writes a file and its folders. Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)
