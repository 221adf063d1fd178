"""Benchmark of face detection next to OpenCV's Haar cascade: recall, false detections, classes and throughput.

The pictures are two photos without people, which scikit-learn contains, with four faces of 48x48 pixels pasted into
each. A face is found if the intersection over union of a detected square and its own is at least `MIN_OVERLAP`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_image

from fer import progress
from fer.benchmark.harness import Result, run_interleaved
from fer.data import example_codec, manifest
from fer.evaluation.metrics.metrics import wilson
from fer.predict import face_classifier, face_detection
from fer.predict.face_detection import Box
from fer.synthetic import synthetic

FACES = 80  # of each kind
BACKGROUNDS = ("china.jpg", "flower.jpg")
SIZE = (640, 480)  # of the pictures, which are divided into four quarters
CONDITIONS = [(20, 0), (32, 0), (48, 0), (96, 0), (96, 15), (96, 30), (96, 45)]  # side in pixels, tilt in degrees
CLASSIFIED = [(48, 0), (96, 0), (96, 15)]  # conditions in which the classes are compared
MIN_OVERLAP = 0.35
CASCADE = "haarcascade_frontalface_default.xml"
HAAR, YUNET = "Haar cascade", "YuNet"

Detector = Callable[[Image.Image], Sequence[Box]]


class Scene(NamedTuple):
    """A picture with faces."""

    image: Image.Image
    boxes: list[Box]  # of the faces before they were tilted


def measure(data: str | None = None) -> list[Result]:
    """Measures both detectors on drawn faces and, if shards are given, on faces of their validation split.

    Args:
      data: folder of shards.
    """
    kinds = {"drawn faces": synthetic.generate_faces(FACES, seed=0)[0]}
    if data:
        images = example_codec.read_split(manifest.read_manifest(data), "validation").images[..., 0]
        kinds["validation faces"] = np.random.default_rng(0).permutation(images)[:FACES]
    network = face_classifier.load()
    results = []
    for kind, faces in kinds.items():
        results += measure_recall(kind, faces, network.predict_faces)
    scenes = [scene.image for scene in make_scenes(kinds["drawn faces"][:8], 96, 0)]

    def timed(detector: Detector) -> Callable[[], int]:
        return lambda: len([detector(image) for image in scenes])

    return results + run_interleaved(
        "detect", "pictures/s", {name: timed(detector) for name, detector in detectors().items()}, HAAR
    )


def detectors() -> dict[str, Detector]:
    """Returns the detectors by name."""
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + CASCADE)  # type: ignore[attr-defined]  # without types

    def find(image: Image.Image) -> list[Box]:
        found = cascade.detectMultiScale(np.asarray(image.convert("L")), 1.1, 5, minSize=(32, 32))
        return [Box(*map(int, box)) for box in found]

    return {HAAR: find, YUNET: face_detection.detect}


def measure_recall(kind: str, faces: np.ndarray, classify: Callable[[np.ndarray], np.ndarray]) -> list[Result]:
    """Measures the found faces in each condition, the false detections, and the faces whose class stays the same.

    Args:
      kind: the first part of the results' names.
      faces: uint8 [n, 48, 48].
      classify: returns the probabilities of faces uint8 [n, 48, 48, 1].
    """
    results, false, pictures = [], dict.fromkeys((HAAR, YUNET), 0), 0
    crops: dict[str, dict[Any, np.ndarray]] = {HAAR: {}, YUNET: {}}
    for side, tilt in CONDITIONS:
        scenes = make_scenes(faces, side, tilt)
        pictures += len(scenes)
        for name, detector in detectors().items():
            with progress.stage(f"detect: {kind}: {name}: {side} pixels, {tilt} degrees"):
                found = [match(detector(scene.image), scene.boxes) for scene in scenes]
            false[name] += sum(unmatched for _, unmatched in found)
            boxes = list(itertools.chain.from_iterable(matched for matched, _ in found))
            hits = sum(box is not None for box in boxes)
            results.append(_share(f"{kind}, {name}, {side} px, {tilt} degrees", hits, len(faces), "% found"))
            if (side, tilt) in CLASSIFIED:
                for number, box in enumerate(boxes):
                    if box:
                        crops[name][side, tilt, number] = face_detection.crop(scenes[number // 4].image, box)
    both = sorted(crops[HAAR].keys() & crops[YUNET].keys())
    wanted = classify(faces[..., np.newaxis]).argmax(1)[[number for *_, number in both]]
    for name, cropped in crops.items():
        per_100 = round(100 * false[name] / pictures, 1)
        results.append(Result("detect", f"{kind}, {name}, false", per_100, "per 100 pictures", per_100, per_100))
        if not both:
            continue
        same = int((classify(np.array([cropped[key] for key in both])).argmax(1) == wanted).sum())
        results.append(_share(f"{kind}, {name}, class of the whole face", same, len(both), "% of those both found"))
    return results


def make_scenes(faces: np.ndarray, side: int, tilt: int) -> list[Scene]:
    """Pastes faces into photos, four to a picture, at random places of its quarters.

    Args:
      faces: uint8 [n, 48, 48].
      side: of the face in the picture, in pixels.
      tilt: in degrees; half of the faces are tilted to each side.
    """
    rng = np.random.default_rng([side, tilt])
    scenes = []
    for number, start in enumerate(range(0, len(faces), 4)):
        photo = Image.fromarray(load_sample_image(BACKGROUNDS[number % len(BACKGROUNDS)])).resize(SIZE)
        boxes = []
        for face, (column, row) in zip(faces[start : start + 4], itertools.product(range(2), range(2))):
            angle = tilt * int(rng.choice([-1, 1]))
            part = Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC)
            mask = Image.new("L", (side, side))
            mask.paste(255, (1, 1, side - 1, side - 1))
            mask = mask.filter(ImageFilter.GaussianBlur(max(1, side / 32)))
            part, mask = (each.rotate(angle, Image.Resampling.BICUBIC, expand=True) for each in (part, mask))
            left = column * SIZE[0] // 2 + int(rng.integers(SIZE[0] // 2 - part.width))
            top = row * SIZE[1] // 2 + int(rng.integers(SIZE[1] // 2 - part.height))
            photo.paste(part, (left, top), mask)
            boxes.append(Box(left + (part.width - side) // 2, top + (part.height - side) // 2, side, side))
        scenes.append(Scene(photo, boxes))
    return scenes


def match(found: Sequence[Box], boxes: Sequence[Box]) -> tuple[list[Box | None], int]:
    """Returns the detection that overlaps each of `boxes` most, or None, and the number of the other detections."""
    best: list[Box | None] = []
    for box in boxes:
        overlaps = [_overlap(box, each) for each in found]
        place = int(np.argmax(overlaps)) if overlaps else -1
        best.append(found[place] if place >= 0 and overlaps[place] >= MIN_OVERLAP else None)
    return best, len(found) - len(set(best) - {None})


def _overlap(one: Box, other: Box) -> float:
    """Returns the intersection over union of two boxes."""
    width = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    height = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    common = max(0, width) * max(0, height)
    return common / (one.width * one.height + other.width * other.height - common)


def _share(name: str, count: int, total: int, unit: str) -> Result:
    """Returns a percentage with its 95 % confidence interval (Wilson) as the range."""
    low, high = (round(100 * bound, 1) for bound in wilson(count, total))
    return Result("detect", name, round(100 * count / total, 1), unit, low, high)
