"""One export: a run's network in other programs' formats, compared with the run before anything is written."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any, Callable

import numpy as np
import tensorflow as tf

import fer
from fer.config import FORMATS
from fer.data.manifest import MANIFEST_FILE, read_manifest
from fer.errors import UserError
from fer.evaluation import eval_dataset
from fer.evaluation.requests import ALL, export_precisions
from fer.export import converters, parity
from fer.io import files, temp_files
from fer.io.transaction import transaction
from fer.labels import CLASSES
from fer.models import classifier, export_manifest, loading, runtimes

CALIBRATION = 500  # faces of the validation split, evenly spread, that show int8 its ranges
MOST_LOST = 0.01  # of the accuracy, by any export
ORDER = [converters.file_name(kind, name) for kind, names in FORMATS.items() for name in names]
PACKAGES = ("tensorflow", "numpy", "tf2onnx", "onnx", "onnxruntime")
MARKER = "saved_model.pb"  # the file of a SavedModel without which TensorFlow loads none


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """What is to be exported, and as what."""

    workdir: str
    kind: str  # one of `fer.config.FORMATS`
    output: str  # the folder
    data: str | None = None  # folder of shards, whose validation split compares and calibrates; None: see `find_shards`
    precision: str = ALL  # one that the format has, or all of them


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written."""

    content: dict[str, Any]  # of export.json: these exports, and those of the same run that the folder held before
    paths: Sequence[str]  # of these exports, and of export.json


def export(request: ExportRequest, progress: Callable[[int, int], None] = lambda done, total: None) -> Exported:
    """Exports a run, loads each export by its own runtime and compares it with the run; writes the folder last.

    Args:
      request: what and how.
      progress: called after each batch of faces that were predicted, with their number and how many there are in all.

    Raises:
      UserError: the run or the data cannot be read, the format does not know the network's operations or the
        precision, the folder holds a run or another one's exports or cannot be written to, or an export loses more
        than `MOST_LOST`. Nothing is written then.
    """
    precisions = export_precisions(request.kind, request.precision)
    run = open_trained(request.workdir)
    manifest = read_manifest(find_shards(request.data, run))
    scored = eval_dataset.read(manifest, "validation", "fer")
    files.check_writable(os.path.join(request.output, export_manifest.FILE))
    before = _before(request.output, run)
    model = in_float32(run)
    calibration = scored.images[
        np.linspace(0, len(scored.images) - 1, min(CALIBRATION, len(scored.images))).astype(int)
    ]
    total = (1 + len(precisions)) * len(scored.images)

    def measure(network: runtimes.Network, precision: str) -> parity.ParityResult:
        return parity.measure(network, precision, scored.images, scored.labels, lambda done: progress(done, total))

    of_run = measure(runtimes.of_model(run.model), run.precision)
    with temp_files.folder("export") as folder:
        entries: list[dict[str, Any]] = []
        for precision in precisions:
            path = converters.write(model, request.kind, precision, folder, calibration)
            found = measure(runtimes.load(path, request.kind), precision)
            size, sha256 = export_manifest.size_and_sha256(path)
            entries.append(
                {
                    "file": os.path.basename(path),
                    "format": request.kind,
                    "precision": precision,
                    "bytes": size,
                    "sha256": sha256,
                    "calibrated_on": len(calibration) if precision == "int8" else None,
                    "compared": parity.compared(found, of_run, manifest),
                }
            )
            _check_loss(entries[-1])
        content = _content(run, [*entries, *before])
        return Exported(content, _write(folder, request.output, [entry["file"] for entry in entries], content))


def find_shards(data: str | None, run: loading.Run) -> str:
    """The folder of shards that is named, or else the one in tfrecords/ that goes by the name of the run's own data.

    Raises:
      UserError: there is no such folder in tfrecords/.
    """
    if data:
        return data
    name = run.trained_on["name"]
    folder = os.path.join("tfrecords", name)
    if not tf.io.gfile.exists(os.path.join(folder, MANIFEST_FILE)):
        raise UserError(
            f"--data is missing: {run.workdir} was trained on {name}, and {folder} holds no shards; name their folder."
        )
    return folder


def open_trained(workdir: str) -> loading.Run:
    """Opens a run whose weights are at hand.

    Raises:
      UserError: there is none, or `workdir` is itself an export.
    """
    run = loading.open_run(workdir)
    if run.export:
        raise UserError(f"{workdir} is an export already; export the run that it was made of.")
    return run


def in_float32(run: loading.Run) -> tf.keras.Model:
    """The run's network with its weights, computing in float32 whatever it was trained in."""
    model = classifier.build(run.config.model, "float32")
    model.set_weights(run.model.get_weights())
    return model


def _before(output: str, run: loading.Run) -> list[dict[str, Any]]:
    """The exports that the folder holds already, all of the same run."""
    if not files.exists(os.path.join(output, export_manifest.FILE)):
        if files.exists(os.path.join(output, "best.json")):
            raise UserError(f"{output} is a run folder; choose another --output, such as {output}/export.")
        return []
    content = export_manifest.read(output)
    if content["run"]["weights_sha256"] != run.weights_sha256:
        raise UserError(
            f"{output} holds exports of other weights ({content['run']['workdir']}, step "
            f"{content['run']['checkpoint_step']:,}); choose another --output or remove it."
        )
    return content["exports"]


def _check_loss(entry: dict[str, Any]) -> None:
    found = entry["compared"]
    lost = -found["accuracy_difference"]
    if round(lost, 9) > MOST_LOST:  # a face of a hundred is 0.01, but for the last bit
        raise UserError(
            f"{entry['file']} loses {100 * lost:.2f} points of accuracy on validation's {found['examples']:,} faces "
            f"({100 * found['run']['accuracy']:.2f} % to {100 * found['export']['accuracy']:.2f} %), more than the "
            f"{100 * MOST_LOST:g} allowed, so nothing was written; choose another --precision or --format."
        )


def _content(run: loading.Run, entries: list[dict[str, Any]]) -> dict[str, Any]:
    by_file = {entry["file"]: entry for entry in reversed(entries)}  # the new ones come first and stay
    return {
        "schema_version": export_manifest.SCHEMA_VERSION,
        "model": run.config.model.name,
        "parameters": run.parameters,
        "classes": list(CLASSES),
        "signature": {
            runtimes.FACES: "uint8 [n, 48, 48, 1]",
            runtimes.PROBABILITIES: "float32 [n, 7]",
            runtimes.LOGITS: "float32 [n, 7]",
        },
        "run": {
            "workdir": run.workdir,
            "config": run.recorded,
            "config_sha256": run.config_sha256,
            "weights_sha256": run.weights_sha256,
            "checkpoint_step": run.step,
            "selected_on": run.selected_on,
            "trained_on": run.trained_on,
        },
        "exports": [by_file[name] for name in ORDER if name in by_file],
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    versions = {"fer": fer.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # of the extra, which SavedModel and TFLite do without
    return versions


def _write(source: str, output: str, names: Sequence[str], content: dict[str, Any]) -> list[str]:
    """Copies exports to the folder `output`, which need not be local, and writes export.json: all or, locally, nothing.

    Returns:
      The paths, that of export.json last.
    """
    paths = [os.path.join(output, name) for name in names]
    with transaction() as stage:
        for name, path in zip(names, paths):
            _copy(os.path.join(source, name), stage(path))
        record = os.path.join(output, export_manifest.FILE)
        export_manifest.write(stage(record), content)
    return [*paths, record]


def _copy(source: str, target: str) -> None:
    """Copies a local file or folder to where it belongs, which need not be local.

    In a store a folder's files appear one by one. `MARKER` is removed first and written last, and
    export.json has the old folder's hash until the new one is whole.
    """
    if not os.path.isdir(source):
        with open(source, "rb") as file:
            files.write_bytes(target, file.read())
        return
    if tf.io.gfile.exists(target):
        if tf.io.gfile.exists(os.path.join(target, MARKER)):
            tf.io.gfile.remove(os.path.join(target, MARKER))
        tf.io.gfile.rmtree(target)
    for name in sorted(export_manifest.within(source), key=lambda name: name == MARKER):
        _copy(os.path.join(source, name), os.path.join(target, name))
