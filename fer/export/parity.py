"""Compares an export with its run: accuracy on the same faces, agreement and latency, each in its own runtime."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fer.data.manifest import Manifest
from fer.evaluation import inference
from fer.models.runtimes import Network

MAX_SINGLE_CALLS, MAX_BATCH_CALLS = 100, 10  # timed calls with one face, and with a batch
MIN_CALLS = 3  # timed calls, even if they take longer than MAX_SECONDS
MAX_SECONDS = 4.0

HEADER = ("", "size", "accuracy", "difference", "agreement", "single face", "per face in a batch")


@dataclasses.dataclass(frozen=True)
class ParityResult:
    """Accuracy and latency of a network on the validation split."""

    precision: str
    predicted: np.ndarray  # [n] integers in 0..C-1
    accuracy: float
    milliseconds_alone: float  # median of calls with one face
    milliseconds_in_batch: float  # median of calls with a batch, divided by the batch size

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as in export.schema.json."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del fields["predicted"]
        return {**fields, "batch": inference.BATCH}


def measure(
    network: Network, precision: str, images: np.ndarray, labels: np.ndarray, progress: Callable[[int], None]
) -> ParityResult:
    """Predicts faces in the way of scripts/evaluate.py, and times the runtime alone.

    Args:
      network: the network.
      precision: its name, which is only recorded.
      images: [n, 48, 48, 1] uint8.
      labels: [n] integers in 0..C-1.
      progress: called after each batch with the number of faces in it.
    """
    predicted = inference.predict([network], images, progress=progress).probabilities.argmax(axis=1)
    batch = np.resize(images, (inference.BATCH, *images.shape[1:]))  # repeats the faces if there are fewer
    return ParityResult(
        precision,
        predicted,
        float((predicted == labels).mean()),
        milliseconds_alone=1000 * _median_seconds(network.compute, batch, 1, MAX_SINGLE_CALLS),
        milliseconds_in_batch=1000 * _median_seconds(network.compute, batch, len(batch), MAX_BATCH_CALLS) / len(batch),
    )


def compare(export: ParityResult, run: ParityResult, manifest: Manifest) -> dict[str, Any]:
    """Returns the field compared of export.json."""
    return {
        "data": {"name": manifest.name, "manifest_sha256": manifest.sha256},
        "split": "validation",
        "examples": len(run.predicted),
        "agreement": float((export.predicted == run.predicted).mean()),
        "accuracy_difference": export.accuracy - run.accuracy,
        "export": export.to_json(),
        "run": run.to_json(),
    }


def format_table(entries: Sequence[dict[str, Any]]) -> str:
    """Formats the exports of one export.json as a table of text, with the run in the first row."""
    run = entries[0]["compared"]["run"]
    rows = [HEADER, (f"run, {run['precision']}", "", f"{100 * run['accuracy']:.2f} %", "", "", *_times(run))]
    for entry in entries:
        comparison = entry["compared"]
        rows.append(
            (
                entry["file"],
                f"{entry['bytes'] / 1e6:.2f} MB",
                f"{100 * comparison['export']['accuracy']:.2f} %",
                f"{100 * comparison['accuracy_difference']:+.2f}",
                f"{100 * comparison['agreement']:.2f} %",
                *_times(comparison["export"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:]))])
        for row in rows
    )


def _times(result: dict[str, Any]) -> tuple[str, str]:
    return f"{result['milliseconds_alone']:.2f} ms", f"{result['milliseconds_in_batch']:.3f} ms"


def _median_seconds(
    compute: Callable[[np.ndarray], np.ndarray], faces: np.ndarray, batch_size: int, max_calls: int
) -> float:
    """Returns the median time of calls with `batch_size` faces, after two warm-up calls that compile and allocate."""
    parts = [faces[start : start + batch_size] for start in range(0, len(faces), batch_size)]
    for _ in range(2):
        compute(parts[0])
    first_start = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < max_calls and (len(seconds) < MIN_CALLS or time.perf_counter() - first_start < MAX_SECONDS):
        start = time.perf_counter()
        compute(parts[len(seconds) % len(parts)])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
