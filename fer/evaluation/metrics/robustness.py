"""Accuracy of a model on corrupted faces: ten kinds of image corruption at five strengths.

Modelled on Hendrycks and Dietterich 2019 (arXiv:1903.12261), with kinds and strengths for grey faces of 48x48 pixels:
from hardly visible to an expression that is barely readable. A corruption is a pure function of faces and seed: random
values are functions of (seed, kind, strength, position), so that the corruption of a face does not depend on the faces
that follow it.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from fer.evaluation.metrics import metrics
from fer.lazy_modules import ndimage

STRENGTHS = 5

Corrupt = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of corruption."""

    corrupt: Corrupt  # ([n, 48, 48] float32 in [0, 255], level, random) -> [n, 48, 48], not rounded
    levels: tuple[float, ...]  # of the five strengths, in ascending strength
    meaning: str  # what a level is, with its unit


def corrupt(images: np.ndarray, kind: str, strength: int, seed: int) -> np.ndarray:
    """Corrupts faces.

    Args:
      images: [n, 48, 48, 1] uint8.
      kind: a name in `KINDS`.
      strength: 1 to 5.
      seed: 0 or more.

    Returns:
      [n, 48, 48, 1] uint8.
    """
    if not len(images):
        return images.copy()
    definition = KINDS[kind]
    random = np.random.default_rng((seed, list(KINDS).index(kind), strength))
    changed = definition.corrupt(images[..., 0].astype(np.float32), definition.levels[strength - 1], random)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)[..., np.newaxis]


def _blur(faces: np.ndarray, level: float, _: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(faces, (0, level, level), mode="nearest")


def _noise(faces: np.ndarray, level: float, random: np.random.Generator) -> np.ndarray:
    return faces + level * random.standard_normal(faces.shape, np.float32)


def _brightness(faces: np.ndarray, level: float, random: np.random.Generator) -> np.ndarray:
    return faces + level * _signs(len(faces), random)[:, np.newaxis, np.newaxis]


def _contrast(faces: np.ndarray, level: float, _: np.random.Generator) -> np.ndarray:
    mean = faces.mean(axis=(1, 2), keepdims=True)
    return mean + level * (faces - mean)


def _jpeg(faces: np.ndarray, level: float, _: np.random.Generator) -> np.ndarray:
    def compress(face: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(face).save(file, "JPEG", quality=int(level))
        return np.asarray(Image.open(file))

    return np.stack([compress(face) for face in faces.astype(np.uint8)])


def _low_resolution(faces: np.ndarray, level: float, _: np.random.Generator) -> np.ndarray:
    side, small = faces.shape[1], int(level)

    def resample(face: np.ndarray) -> np.ndarray:
        shrunk = Image.fromarray(face).resize((small, small), Image.Resampling.BOX)
        return np.asarray(shrunk.resize((side, side), Image.Resampling.BILINEAR))

    return np.stack([resample(face) for face in faces])


def _occlusion(faces: np.ndarray, level: float, random: np.random.Generator) -> np.ndarray:
    height = int(level)
    tops, lefts = random.integers(0, faces.shape[1] - height + 1, (len(faces), 2)).T
    places = np.arange(faces.shape[1])
    rows = (places >= tops[:, np.newaxis]) & (places < tops[:, np.newaxis] + height)
    columns = (places >= lefts[:, np.newaxis]) & (places < lefts[:, np.newaxis] + height)
    return np.where(rows[:, :, np.newaxis] & columns[:, np.newaxis, :], np.float32(128), faces)


def _rotation(faces: np.ndarray, level: float, random: np.random.Generator) -> np.ndarray:
    signs = _signs(len(faces), random)
    turned = faces.copy()
    for sign in (-1, 1):
        turned[signs == sign] = ndimage.rotate(
            faces[signs == sign], sign * level, axes=(2, 1), reshape=False, order=1, mode="nearest"
        )
    return turned


def _shift(faces: np.ndarray, level: float, random: np.random.Generator) -> np.ndarray:
    angles = 2 * np.pi * random.random(len(faces))
    offsets = level * faces.shape[1] * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return np.stack([ndimage.shift(face, offset, order=1, mode="nearest") for face, offset in zip(faces, offsets)])


def _scale(faces: np.ndarray, level: float, random: np.random.Generator) -> np.ndarray:
    steps = level ** -_signs(len(faces), random)  # source pixels for each pixel of the result
    centre = (faces.shape[1] - 1) / 2

    def resample(face: np.ndarray, step: float) -> np.ndarray:
        return ndimage.affine_transform(face, [step, step], centre * (1 - step), order=1, mode="nearest")

    return np.stack([resample(face, step) for face, step in zip(faces, steps)])


def _signs(count: int, random: np.random.Generator) -> np.ndarray:
    """Draws [count] float32, each -1 or 1."""
    return (2 * random.integers(0, 2, count) - 1).astype(np.float32)


KINDS = {
    "blur": Kind(_blur, (0.5, 1, 1.5, 2, 3), "standard deviation of the Gaussian, pixels"),
    "noise": Kind(_noise, (8, 16, 24, 36, 48), "standard deviation of the Gaussian, grey levels"),
    "brightness": Kind(_brightness, (20, 40, 60, 80, 100), "grey levels added or subtracted at random"),
    "contrast": Kind(_contrast, (0.6, 0.4, 0.3, 0.2, 0.1), "factor on the difference to the mean of the face"),
    "jpeg": Kind(_jpeg, (50, 30, 20, 10, 5), "quality of the JPEG file"),
    "low_resolution": Kind(_low_resolution, (32, 24, 16, 12, 8), "pixels a side, then resized to 48"),
    "occlusion": Kind(_occlusion, (8, 12, 16, 20, 24), "side of a grey square at a random position, pixels"),
    "rotation": Kind(_rotation, (10, 20, 30, 45, 60), "degrees to the left or right at random"),
    "shift": Kind(_shift, (0.05, 0.1, 0.15, 0.2, 0.3), "share of the side, in a random direction"),
    "scale": Kind(_scale, (1.1, 1.2, 1.35, 1.5, 1.75), "factor, enlarged or reduced at random"),
}


SEED = 0
PASSES = len(KINDS) * STRENGTHS  # number of forward passes over the faces


def measure_robustness(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray, seed: int = SEED
) -> dict[str, Any]:
    """Measures the accuracy under each kind and strength of corruption.

    Args:
      predict: maps faces [n, 48, 48, 1] uint8 to probabilities [n, C].
      images: [n, 48, 48, 1] uint8.
      labels: [n] integers in 0..C-1.
      seed: of the corruptions, 0 or more.

    Returns:
      The field corruptions of eval.json: seed, mean_accuracy (over all kinds and strengths) and, by kind, levels, their
      meaning, accuracy and its Wilson interval at each of the five strengths.
    """
    kinds: dict[str, Any] = {}
    for name, kind in KINDS.items():
        correct = [
            int((predict(corrupt(images, name, strength, seed)).argmax(axis=1) == labels).sum())
            for strength in range(1, STRENGTHS + 1)
        ]
        kinds[name] = {
            "meaning": kind.meaning,
            "levels": list(kind.levels),
            "accuracy": [count / len(labels) for count in correct],
            "accuracy_ci95": [list(metrics.wilson(count, len(labels))) for count in correct],
        }
    mean = float(np.mean([kind["accuracy"] for kind in kinds.values()]))
    return {"seed": seed, "mean_accuracy": mean, "kinds": kinds}
