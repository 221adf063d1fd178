"""An export beside the run that it was made of: the same faces, each by its own runtime."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from fer.data.manifest import Manifest
from fer.evaluation import inference
from fer.models.runtimes import Network

ALONE, IN_BATCH = 100, 10  # calls that are timed at most
LEAST, LONGEST = 3, 4.0  # calls that are timed at least, and seconds after which it stops there

HEADER = ("", "size", "accuracy", "difference", "agreement", "one face", "in a batch")


@dataclasses.dataclass(frozen=True)
class ParityResult:
    """A network on the validation split."""

    precision: str
    predicted: np.ndarray  # [n] integers in 0..6
    accuracy: float
    milliseconds_alone: float  # median for a face by itself
    milliseconds_in_batch: float  # a face's share of the median for a batch

    def to_json(self) -> dict[str, Any]:
        """As export.schema.json has it."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["predicted"]
        return {**fields, "batch": inference.BATCH}


def measure(
    network: Network, precision: str, images: np.ndarray, labels: np.ndarray, progress: Callable[[int], None]
) -> ParityResult:
    """Predicts faces as `scripts/evaluate.py` does, and times the runtime by itself.

    Args:
      network, precision: what computes, and in what.
      images, labels: [n, 48, 48, 1] uint8 and [n].
      progress: called after each batch with the number of faces done in it.
    """
    predicted = inference.predict([network], images, progress=progress).probabilities.argmax(axis=1)
    batch = np.resize(images, (inference.BATCH, *images.shape[1:]))  # repeats them where there are fewer
    return ParityResult(
        precision,
        predicted,
        float((predicted == labels).mean()),
        milliseconds_alone=1000 * _median_seconds(network.compute, batch, 1, ALONE),
        milliseconds_in_batch=1000 * _median_seconds(network.compute, batch, len(batch), IN_BATCH) / len(batch),
    )


def compared(export: ParityResult, run: ParityResult, manifest: Manifest) -> dict[str, Any]:
    """What export.json says under compared."""
    return {
        "data": {"name": manifest.name, "manifest_sha256": manifest.sha256},
        "split": "validation",
        "examples": len(run.predicted),
        "agreement": float((export.predicted == run.predicted).mean()),
        "accuracy_difference": export.accuracy - run.accuracy,
        "export": export.to_json(),
        "run": run.to_json(),
    }


def table(entries: Sequence[dict[str, Any]]) -> str:
    """Exports of one export.json as lines of text, the run that they were compared with first."""
    run = entries[0]["compared"]["run"]
    rows = [HEADER, (f"the run, {run['precision']}", "", f"{100 * run['accuracy']:.2f} %", "", "", *_times(run))]
    for entry in entries:
        found = entry["compared"]
        rows.append(
            (
                entry["file"],
                f"{entry['bytes'] / 1e6:.2f} MB",
                f"{100 * found['export']['accuracy']:.2f} %",
                f"{100 * found['accuracy_difference']:+.2f}",
                f"{100 * found['agreement']:.2f} %",
                *_times(found["export"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
        for row in rows
    )


def _times(measured: dict[str, Any]) -> tuple[str, str]:
    return f"{measured['milliseconds_alone']:.2f} ms", f"{measured['milliseconds_in_batch']:.3f} ms"


def _median_seconds(compute: Callable[[np.ndarray], np.ndarray], faces: np.ndarray, at_once: int, most: int) -> float:
    """The median time of calls with `at_once` faces, after two that are not counted: they compile and allocate."""
    parts = [faces[start : start + at_once] for start in range(0, len(faces), at_once)]
    for _ in range(2):
        compute(parts[0])
    began = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < most and (len(seconds) < LEAST or time.perf_counter() - began < LONGEST):
        started = time.perf_counter()
        compute(parts[len(seconds) % len(parts)])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
