"""What the tests of the data room make: faces, and their files in FER-2013's forms."""

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
    """Images that nobody takes for each other, uint8 [n, 2304], with every value and length of number in them."""
    return np.random.default_rng(seed).integers(0, 256, (count, 2304), dtype=np.uint8)


def text(image: Iterable[int]) -> str:
    """An image as the column `pixels` has it."""
    return " ".join(map(str, image))


def csv(images: np.ndarray, labels: Sequence[int] | None = None, usages: Sequence[str] | None = None) -> str:
    """fer2013.csv; labels and usages run through all there are if none are given."""
    labels = [i % 7 for i in range(len(images))] if labels is None else labels
    usages = [USAGES[i % 3] for i in range(len(images))] if usages is None else usages
    rows = [f"{label},{text(image)},{usage}\n" for image, label, usage in zip(images, labels, usages)]
    return "emotion,pixels,Usage\n" + "".join(rows)


def picture(image: np.ndarray, kind: str = "PNG", size: int = 48, mode: str = "L") -> bytes:
    """An image, uint8 [2304], as a picture's bytes."""
    file = io.BytesIO()
    Image.fromarray(image.reshape(48, 48)).resize((size, size), Image.Resampling.NEAREST).convert(mode).save(file, kind)
    return file.getvalue()


def write(path: pathlib.Path, content: str | bytes) -> str:
    """Writes a file, folders above it included, and returns its path as the programs take it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)
