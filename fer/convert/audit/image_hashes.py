"""Hashes and sums of each face, by which duplicates and blank images are found without the pixels.

The perceptual hash is the common one of 64 bits (Zauner 2010, "Implementation and benchmarking of perceptual image
hash functions", chapter 3.2.1): the 8x8 lowest frequencies of the discrete cosine transform, each compared with
their median. It is computed in integers, so that every machine computes the same bits.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np

from fer.labels import PIXELS, SIDE

DIGEST_BYTES = 16  # bytes of BLAKE2b

_NUM_FREQUENCIES = 8  # lowest frequencies used in each direction
_SCALE = 64  # of the integer cosines: 48 * 255 * 64 < 2**24, so that the first pass is exact in float32


@dataclasses.dataclass(frozen=True)
class ImageHashes:
    """Hashes and sums of n faces."""

    hashes: np.ndarray  # uint64 [n], perceptual: few bits differ between faces that look alike
    sums: np.ndarray  # int64 [n], of the pixels
    squares: np.ndarray  # int64 [n], of the pixels' squares

    def deviations(self) -> np.ndarray:
        """Returns the standard deviation of each face in grey levels, float64 [n]."""
        return np.sqrt(np.maximum(self.squares * PIXELS - self.sums**2, 0)) / PIXELS


def hash_images(images: np.ndarray) -> ImageHashes:
    """Returns the hashes and sums of faces, uint8 [n, 2304]."""
    pixels = images.reshape(-1, SIDE).astype(np.float32)
    frequencies = _transform(pixels)
    row_squares = np.einsum("ij,ij->i", pixels, pixels)  # integers below 2**24, exact in float32
    return ImageHashes(
        hashes=_compare_with_median(frequencies),
        sums=(frequencies[:, 0] / _SCALE**2).astype(np.int64),
        squares=row_squares.reshape(-1, SIDE).sum(axis=1, dtype=np.float64).astype(np.int64),
    )


def digest_images(images: np.ndarray) -> list[bytes]:
    """Returns a hash of the pixels of each image, [n, ...] uint8: equal only for identical images."""
    return [hashlib.blake2b(image, digest_size=DIGEST_BYTES).digest() for image in images]


def concatenate(parts: list[ImageHashes]) -> ImageHashes:
    """Returns the hashes and sums of several batches of faces as one."""
    parts = parts or [hash_images(np.empty((0, PIXELS), np.uint8))]
    return ImageHashes(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(ImageHashes))
    )


def select(hashes: ImageHashes, mask: np.ndarray) -> ImageHashes:
    """Returns the hashes and sums of the faces of a mask, bool [n]."""
    return ImageHashes(*(getattr(hashes, field.name)[mask] for field in dataclasses.fields(ImageHashes)))


def _transform(pixels: np.ndarray) -> np.ndarray:
    """Returns the lowest frequencies of the rows of n faces, float32 [48 n, 48], as integers in float64 [n, 64].

    The first frequency of a face is the sum of its pixels, times `_SCALE` squared.
    """
    cosines = _dct_matrix()
    across = (pixels @ cosines.T.astype(np.float32)).reshape(-1, SIDE, _NUM_FREQUENCIES)  # integers below 2**24
    both = cosines.astype(np.float64) @ across.astype(np.float64)  # [n, 8, 8], integers below 2**53
    return both.reshape(-1, _NUM_FREQUENCIES * _NUM_FREQUENCIES)


def _compare_with_median(frequencies: np.ndarray) -> np.ndarray:
    """Returns, as uint64 [n], the bits of the frequencies, [n, 64], that are above the median of their face."""
    others = frequencies[:, 1:]  # the first is the mean, much larger than all others
    median = np.partition(others, others.shape[1] // 2, axis=1)[:, others.shape[1] // 2]
    return np.packbits(frequencies > median[:, None], axis=1).view(np.uint64)[:, 0]


@functools.cache
def _dct_matrix() -> np.ndarray:
    """Returns the lowest rows of the cosine transform (DCT-II), times `_SCALE` and rounded: int64 [8, 48]."""
    frequency, position = np.arange(_NUM_FREQUENCIES)[:, None], np.arange(SIDE)[None, :]
    return np.rint(_SCALE * np.cos(np.pi * frequency * (position + 0.5) / SIDE)).astype(np.int64)
