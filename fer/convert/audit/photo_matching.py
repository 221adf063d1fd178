"""Pairs of faces cut from the same photograph, although cropped, scaled, rotated, mirrored or overprinted differently.

Perceptual hashes find such a pair only if both crops are nearly equal. Here, a pair is found in three steps:

1. Candidates: low-resolution descriptors of the central window of each reference face are compared with those of
   windows of several sizes and positions of each query face.
2. Alignment: the Lucas-Kanade algorithm (Baker and Matthews 2004, "Lucas-Kanade 20 years on") fits position, scale,
   rotation, brightness and contrast of each candidate.
3. Correlation: the aligned pixels are compared without their low frequencies, which faces of different people share.

On FER-2013, most correlations of different photographs lie below 0.8 and most of the same photograph above 0.95. Pairs
of similar faces, mainly of babies, reach 0.87.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fer.labels import SIDE

METHOD = "whitened windows, Lucas-Kanade alignment, correlation of high frequencies"
THRESHOLD = 0.88  # correlation of two crops of the same photograph, at least

WINDOW = 30  # pixels of a side of the compared centre of a reference face
SCALES = (0.87, 1.0, 1.15)  # of the window in a query face
OFFSETS = (-6.0, -3.0, 0.0, 3.0, 6.0)  # pixels of its centre from that of the face, in each direction
CANDIDATES = 3  # aligned reference faces for each query face

_SAMPLES = 16  # a side of a descriptor's window, before whitening
_COMPONENTS = 128  # of a descriptor
_STEPS = 10  # of the alignment
_LARGEST_STEP = (0.05, 0.05, 1.5, 1.5)  # of the parameters that `_align` fits
_LIMITS = (0.4, 0.3, 14, 14)
_MIN_INSIDE = 0.7  # share of the window that lies inside of the query face
_MAX_BATCH = 512  # faces at once
_PAIRS_AT_ONCE = 1 << 24  # similarities in memory
_CENTRE = (SIDE - 1) / 2
_FLAT = 4.0  # grey levels; contrast below it is not amplified


class Matches(NamedTuple):
    """The most similar reference face of each of n query faces."""

    positions: np.ndarray  # [n] int64
    correlations: np.ndarray  # [n] float32, -1 to 1


def find_matches(
    faces: np.ndarray, reference: np.ndarray, progress: Callable[[int], None] = lambda count: None
) -> Matches:
    """Finds, for each face, the reference face that most probably shows the same photograph.

    Args:
      faces: [n, 48, 48] uint8.
      reference: [m, 48, 48] uint8, at least one.
      progress: called with the number of faces of each batch.
    """
    parts = np.array_split(reference, range(_MAX_BATCH, len(reference), _MAX_BATCH))
    windows = np.concatenate([_cut_windows(part, 0, 0, WINDOW) for part in parts])
    describe = _fit_descriptor(windows)
    described = describe(windows)
    size = max(1, min(_MAX_BATCH, _PAIRS_AT_ONCE // len(reference)))
    found = [Matches(np.empty(0, np.int64), np.empty(0, np.float32))]
    for start in range(0, len(faces), size):
        batch = faces[start : start + size]
        plain, mirrored = (_match_batch(each, reference, describe, described) for each in (batch, batch[:, :, ::-1]))
        better = mirrored.correlations > plain.correlations
        found.append(Matches(*(np.where(better, other, one) for one, other in zip(plain, mirrored))))
        progress(len(batch))
    return Matches(*map(np.concatenate, zip(*found)))


def _match_batch(
    faces: np.ndarray, reference: np.ndarray, describe: Callable[[np.ndarray], np.ndarray], described: np.ndarray
) -> Matches:
    """Returns the best of the aligned candidates of each face."""
    positions, windows = _find_candidates(faces, describe, described)
    count = positions.shape[1]
    queries = np.repeat(faces, count, axis=0)
    correlations = _align(queries, reference[positions.ravel()], windows.reshape(-1, 3)).reshape(-1, count)
    best = correlations.argmax(axis=1)[:, None]
    return Matches(*(np.take_along_axis(each, best, axis=1)[:, 0] for each in (positions, correlations)))


def _cut_windows(faces: np.ndarray, right: float, down: float, size: float) -> np.ndarray:
    """Samples a square window of each face bilinearly.

    Args:
      faces: [n, 48, 48] uint8.
      right, down: pixels of the window's centre from that of the face.
      size: pixels of its side. Beyond the edge, the pixels of the edge are repeated.

    Returns:
      [n, 256] float32.
    """
    columns, rows = (_sampling_matrix(_CENTRE + offset, size) for offset in (right, down))
    return (rows @ faces.astype(np.float32) @ columns.T).reshape(len(faces), -1)


def _sampling_matrix(centre: float, size: float) -> np.ndarray:
    """Returns the weights of linear interpolation at `_SAMPLES` positions around `centre`, [samples, 48] float32."""
    at = np.clip(centre + size * ((np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5), 0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(SIDE))).astype(np.float32)


def _fit_descriptor(windows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fits a function from windows [n, 256] to descriptors [n, components] of length 1 on those of the reference faces.

    The windows get mean 0 and standard deviation 1, then are whitened by their principal components, so that details
    weigh as much as the light and dark areas that all faces share.
    """
    windows = _standardize(windows)
    variances, axes = np.linalg.eigh(np.cov(windows.T) if len(windows) > 1 else np.eye(windows.shape[1]))
    order = np.argsort(-variances)[:_COMPONENTS]
    scale = np.sqrt(np.maximum(variances[order], 0) + 1e-3 * variances[order[0]] + 1e-6)
    projection = (axes[:, order] / scale).astype(np.float32)

    def describe(windows: np.ndarray) -> np.ndarray:
        whitened = _standardize(windows) @ projection
        return whitened / (np.linalg.norm(whitened, axis=1, keepdims=True) + 1e-3)

    return describe


def _standardize(windows: np.ndarray) -> np.ndarray:
    """Returns windows with mean 0 and a standard deviation of nearly 1; that of nearly flat ones is smaller."""
    return (windows - windows.mean(axis=1, keepdims=True)) / (windows.std(axis=1, keepdims=True) + _FLAT)


def _find_candidates(
    faces: np.ndarray, describe: Callable[[np.ndarray], np.ndarray], described: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the reference faces whose descriptors are most similar to that of any window of a face.

    Returns:
      positions [n, k] int64, and the window of each: right, down and scale [n, k, 3].
    """
    shape = (len(faces), min(CANDIDATES, len(described)))
    similarities = np.full(shape, -np.inf, np.float32)
    positions, windows = np.full(shape, -1, np.int64), np.zeros((*shape, 3), np.float32)
    everyone = np.arange(len(faces))
    for scale, right, down in itertools.product(SCALES, OFFSETS, OFFSETS):
        compared = describe(_cut_windows(faces, right, down, WINDOW * scale)) @ described.T
        nearest = compared.argmax(axis=1)
        known = positions == nearest[:, None]
        slot = np.where(known.any(axis=1), known.argmax(axis=1), similarities.argmin(axis=1))
        chosen = everyone[compared[everyone, nearest] > similarities[everyone, slot]]
        at = (chosen, slot[chosen])
        similarities[at], positions[at] = compared[chosen, nearest[chosen]], nearest[chosen]
        windows[at] = (right, down, scale)
    return np.maximum(positions, 0), windows


def _align(queries: np.ndarray, references: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Aligns pairs of faces, and returns their correlations.

    A point (x, y) of the reference's window, from its centre, lies in the query at (1 + a) x - b y + right and
    b x + (1 + a) y + down from the centre of the face. The four parameters, and contrast and brightness, are fitted by
    least squares on a smoothed query, with a coarse grid of points.

    Args:
      queries, references: [n, 48, 48] uint8.
      windows: [n, 3] initial right, down and scale of the window in the query.

    Returns:
      [n] float32, -1 to 1; 0 if less than `_MIN_INSIDE` of the window lies inside of the query.
    """
    query, reference = (
        ndimage.gaussian_filter(each.astype(np.float32), (0, 0.7, 0.7)) for each in (queries, references)
    )
    slopes_down, slopes_right = np.gradient(query, axis=(1, 2))
    x, y = _grid(step=2)
    target = _sample(reference, *_transform(np.zeros((len(windows), 4), np.float32), x, y))[0]
    warp = np.stack([windows[:, 2] - 1, np.zeros(len(windows)), windows[:, 0], windows[:, 1]], 1).astype(np.float32)
    damping = np.diag([50, 50, 1, 1, 1e-2, 1e-2]).astype(np.float32)
    largest, limits = (np.array(each, np.float32) for each in (_LARGEST_STEP, _LIMITS))
    for _ in range(_STEPS):
        points = _transform(warp, x, y)
        pixels, inside = _sample(query, *points)
        right, down = (_sample(slopes, *points)[0] for slopes in (slopes_right, slopes_down))
        columns = [right * x + down * y, down * x - right * y, right, down, -target, -np.ones_like(target)]
        jacobian = np.stack(columns, axis=1) * inside[:, None]
        normal = jacobian @ jacobian.transpose(0, 2, 1) + damping
        solution = np.linalg.solve(normal, -(jacobian @ (pixels * inside)[..., None]))[:, :4, 0]
        warp = np.clip(warp + np.clip(solution, -largest, largest), -limits, limits)
    return _correlate_details(query, reference, warp)


def _correlate_details(query: np.ndarray, reference: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Returns the correlation of the high frequencies of aligned faces; arguments and result as in `_align`."""
    x, y = _grid(step=1)
    query, reference = (each - ndimage.uniform_filter(each, (0, 7, 7)) for each in (query, reference))
    one, inside = _sample(query, *_transform(warp, x, y))
    other = _sample(reference, *_transform(np.zeros_like(warp), x, y))[0]
    count = inside.sum(axis=1, keepdims=True) + 1e-6
    one, other = ((each - (each * inside).sum(axis=1, keepdims=True) / count) * inside for each in (one, other))
    energy = (one * one).sum(axis=1) * (other * other).sum(axis=1)
    faintest = (count[:, 0] * 0.25) ** 2  # details of half a grey level are noise of the compression
    correlation = (one * other).sum(axis=1) / np.sqrt(energy + faintest)
    return np.where(inside.mean(axis=1) >= _MIN_INSIDE, correlation, 0).astype(np.float32)


def _grid(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and y of the points of the window, from its centre, [k] float32 each."""
    at = np.arange(-WINDOW // 2, WINDOW // 2, step, dtype=np.float32) + step / 2
    y, x = np.meshgrid(at, at, indexing="ij")
    return x.ravel().astype(np.float32), y.ravel().astype(np.float32)


def _transform(warp: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coordinates of points in each query face, [n, k] float32 each, in pixels from its corner."""
    a, b, right, down = warp.T[..., None]
    return _CENTRE + right + (1 + a) * x - b * y, _CENTRE + down + b * x + (1 + a) * y


def _sample(faces: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interpolates faces [n, 48, 48] at points [n, k] bilinearly.

    Returns:
      Values [n, k] float32, and 1 or 0 as float32 for points inside and outside, where the edge is repeated.
    """
    inside = (columns >= 0) & (columns <= SIDE - 1) & (rows >= 0) & (rows <= SIDE - 1)
    columns, rows = (np.clip(each, 0, SIDE - 1.001) for each in (columns, rows))
    left, top = columns.astype(np.int64), rows.astype(np.int64)
    beside, below = (columns - left).astype(np.float32), (rows - top).astype(np.float32)
    flat, corner = faces.reshape(len(faces), -1), top * SIDE + left
    pixel = [np.take_along_axis(flat, corner + offset, axis=1) for offset in (0, 1, SIDE, SIDE + 1)]
    upper, lower = (one + (other - one) * beside for one, other in (pixel[:2], pixel[2:]))
    return upper + (lower - upper) * below, inside.astype(np.float32)
