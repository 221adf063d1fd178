"""Exports a run to SavedModel, TFLite or ONNX after comparing each export with the run."""

from __future__ import annotations

import dataclasses
import importlib.resources
import os
import platform
from collections.abc import Callable, Collection, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import tensorflow as tf

import fer
from fer.config import FORMATS
from fer.data.manifest import MANIFEST_FILE, read_manifest
from fer.errors import UserError
from fer.evaluation import eval_dataset
from fer.evaluation.eval_options import ALL, export_precisions
from fer.export import converters, parity
from fer.io import files, folder_lock, temp_files
from fer.io.transaction import transaction
from fer.models import classifier, export_manifest, loading, runtimes
from fer.run_dir import RunDir

CALIBRATION_FACES = 500  # of the validation split, evenly spaced, for int8 quantization
MAX_ACCURACY_LOSS = 0.01  # of an export
ORDER = [converters.file_name(kind, name) for kind, names in FORMATS.items() for name in names]
PACKAGES = ("tensorflow", "numpy", "tf2onnx", "onnx", "onnxruntime")
MARKER = "saved_model.pb"  # TensorFlow loads no SavedModel without this file


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """A run to export, and how."""

    workdir: str
    kind: str  # a key of `fer.config.FORMATS`
    output: str  # folder of the exports
    data: str | None = None  # folder of shards with a validation split; None: see `find_shards`
    precision: str = ALL  # a precision of the format, or all


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """Result of `export`."""

    content: dict[str, Any]  # of export.json: the new exports, and earlier ones of the same run in the folder
    paths: Sequence[str]  # of the new exports, their sample program and export.json


def export(request: ExportRequest, progress: Callable[[int, int], None] = lambda done, total: None) -> ExportResult:
    """Exports a run, loads each export in its own runtime, compares it with the run, and then writes the folder.

    Args:
      request: the run and how to export it.
      progress: called after each batch with the number of faces in it and the total number of faces to predict.

    Raises:
      UserError: the run or the data cannot be read or have different classes; the format does not support an operation
        of the network or the precision; the folder holds a run, exports of another run or other files of these names,
        or cannot be written to; or an export loses more than `MAX_ACCURACY_LOSS`. Nothing is written then.
    """
    precisions = export_precisions(request.kind, request.precision)
    run = open_exportable_run(request.workdir)
    manifest = read_manifest(find_shards(request.data, run))
    loading.check_same_classes(request.workdir, run.classes, manifest.folder, manifest.classes)
    dataset = eval_dataset.read(manifest, "validation", "fer")
    names = [*(converters.file_name(request.kind, each) for each in precisions), _example_name(request.kind)]
    _check_output(request.output, run, names)
    model = to_float32(run)
    calibration = _pick_evenly(dataset.images, CALIBRATION_FACES)
    total = (1 + len(precisions)) * len(dataset.images)

    def measure(network: runtimes.Network, precision: str) -> parity.ParityResult:
        return parity.measure(network, precision, dataset.images, dataset.labels, lambda done: progress(done, total))

    run_result = measure(runtimes.wrap_model(run.model), run.precision)
    with temp_files.folder("export") as folder:
        entries: list[dict[str, Any]] = []
        for precision in precisions:
            path = converters.write(model, run.classes, request.kind, precision, folder, calibration)
            result = measure(runtimes.load(path, request.kind, len(run.classes)), precision)
            size, sha256 = export_manifest.size_and_sha256(path)
            entries.append(
                {
                    "file": os.path.basename(path),
                    "format": request.kind,
                    "precision": precision,
                    "bytes": size,
                    "sha256": sha256,
                    "calibrated_on": len(calibration) if precision == "int8" else None,
                    "compared": parity.compare(result, run_result, manifest),
                }
            )
            _check_accuracy_loss(entries[-1])
        _write_example(request.kind, folder)
        return _publish(folder, request.output, names, run, entries)


def find_shards(data: str | None, run: loading.LoadedRun) -> str:
    """Returns `data`, or the folder in tfrecords/ with the name of the data that the run was trained on.

    Raises:
      UserError: there is no such folder in tfrecords/.
    """
    if data:
        return data
    name = run.trained_on["name"]
    folder = os.path.join("tfrecords", name)
    if not files.exists(os.path.join(folder, MANIFEST_FILE)):
        raise UserError(
            f"--data is missing: {run.workdir} was trained on {name}, and {folder} holds no shards. Name their folder."
        )
    return folder


def open_exportable_run(workdir: str) -> loading.LoadedRun:
    """Opens a run that can be exported.

    Raises:
      UserError: there is no run, or `workdir` is itself an export.
    """
    run = loading.open_run(workdir)
    if run.export:
        raise UserError(f"{workdir} is already an export. Export the run it was made from.")
    return run


def to_float32(run: loading.LoadedRun) -> tf.keras.Model:
    """Builds the network of a run in float32, whatever its training precision, and loads its weights."""
    model = classifier.build(run.config.model, "float32", classes=len(run.classes))
    model.set_weights(run.model.get_weights())
    return model


def _pick_evenly(images: np.ndarray, most: int) -> np.ndarray:
    """Returns at most `most` images, evenly spaced in the array."""
    return images[np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)]


def check_replaceable(output: str, names: Sequence[str], written: Collection[str]) -> None:
    """Checks that an export replaces no files of others in its folder.

    Args:
      output: the folder, local or in a store.
      names: of the files and folders that the export will write into it.
      written: names that earlier exports wrote.

    Raises:
      UserError: one of the others exists.
    """
    for name in names:
        path = os.path.join(output, name)
        if name not in written and files.exists(path):
            raise UserError(
                f"{path} exists, and no complete export wrote it; an interrupted one may have. Remove it, or choose "
                "another --output."
            )


def _check_output(output: str, run: loading.LoadedRun, names: Sequence[str]) -> None:
    """Checks that the files of an export may be written into a folder; see `_read_existing` and `check_replaceable`."""
    entries = _read_existing(output, run)
    written = {name for entry in entries for name in (entry["file"], _example_name(entry["format"]))}
    check_replaceable(output, names, written)


def _read_existing(output: str, run: loading.LoadedRun) -> list[dict[str, Any]]:
    """Checks the folder `output`, and returns the entries of its export.json; none without one.

    Raises:
      UserError: the folder cannot be written to, or holds a run or exports of other weights; or export.json is damaged.
    """
    files.check_writable(os.path.join(output, export_manifest.FILE))
    if not files.exists(os.path.join(output, export_manifest.FILE)):
        if RunDir(output).is_run():
            raise UserError(f"{output} is a run folder; choose another --output, such as {output}/export.")
        return []
    content = export_manifest.read(output)
    if content["run"]["weights_sha256"] != run.weights_sha256:
        raise UserError(
            f"{output} holds exports of other weights ({content['run']['workdir']}, step "
            f"{content['run']['checkpoint_step']:,}); choose another --output, or remove the folder."
        )
    return content["exports"]


def _check_accuracy_loss(entry: dict[str, Any]) -> None:
    """Checks an entry of export.json.

    Raises:
      UserError: the export loses more than `MAX_ACCURACY_LOSS`.
    """
    comparison = entry["compared"]
    loss = -comparison["accuracy_difference"]
    if round(loss, 9) > MAX_ACCURACY_LOSS:  # rounded, because 0.5 - 0.49 exceeds 0.01 in the last bit
        raise UserError(
            f"{entry['file']} loses {100 * loss:.2f} points of accuracy on the {comparison['examples']:,} faces of "
            f"validation ({100 * comparison['run']['accuracy']:.2f} % to "
            f"{100 * comparison['export']['accuracy']:.2f} %), more than the {100 * MAX_ACCURACY_LOSS:g} allowed, so "
            "nothing was written. Choose another --precision or --format."
        )


def _export_json(run: loading.LoadedRun, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the content of export.json; of several entries for one file, the first is kept."""
    by_file = {entry["file"]: entry for entry in reversed(entries)}
    return {
        "schema_version": export_manifest.SCHEMA_VERSION,
        "model": run.config.model.name,
        "parameters": run.parameters,
        "classes": list(run.classes),
        "signature": {
            runtimes.FACES: "uint8 [n, 48, 48, 1]",
            runtimes.PROBABILITIES: f"float32 [n, {len(run.classes)}]",
            runtimes.LOGITS: f"float32 [n, {len(run.classes)}]",
        },
        "run": {
            "workdir": run.workdir,
            "config": run.recorded,
            "config_sha256": run.config_sha256,
            "weights_sha256": run.weights_sha256,
            "checkpoint_step": run.step,
            "selected_on": run.selected_on,
            "trained_on": run.trained_on,
            **({"init_from": run.initialized_from} if run.initialized_from else {}),
            **({"averaged": list(run.averaged)} if run.averaged else {}),
        },
        "exports": [by_file[name] for name in ORDER if name in by_file],
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Returns the versions of this package, Python and those of `PACKAGES` that are installed."""
    versions = {"fer": fer.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # only ONNX needs the extra export
    return versions


def _example_name(kind: str) -> str:
    """Returns the file name of the sample program of a format."""
    return f"example_{kind}.py"


def _write_example(kind: str, folder: str) -> None:
    """Writes the sample program of a format, which classifies a picture without this package, into a local folder."""
    name = _example_name(kind)
    source = importlib.resources.files("fer.export").joinpath("examples").joinpath(name)
    files.write_bytes(os.path.join(folder, name), source.read_bytes())


def _publish(
    source: str, output: str, names: Sequence[str], run: loading.LoadedRun, entries: Sequence[dict[str, Any]]
) -> ExportResult:
    """Writes new exports and export.json, which also lists the exports that other processes wrote meanwhile.

    Args:
      source: local folder of the new files.
      output: the folder of the exports.
      names: of the new files.
      run: the exported run.
      entries: of the new exports in export.json.

    Raises:
      UserError: as `_check_output`; or a file cannot be written.
    """
    with folder_lock.hold(output):
        _check_output(output, run, names)
        return _write(source, output, names, lambda: _export_json(run, [*entries, *_read_existing(output, run)]))


def _write(source: str, output: str, names: Sequence[str], make_content: Callable[[], dict[str, Any]]) -> ExportResult:
    """Copies exports and their sample program to the local or remote folder `output`, and writes export.json.

    If a local write fails, nothing is written.

    Args:
      source: local folder of the new files.
      output: the folder of the exports.
      names: of the new files.
      make_content: returns the content of export.json. It is called after the copies, which take long in a store,
        where nothing locks the folder.
    """
    paths = [os.path.join(output, name) for name in names]
    with transaction() as stage:
        for name, path in zip(names, paths):
            _copy(os.path.join(source, name), stage(path))
        record = os.path.join(output, export_manifest.FILE)
        content = make_content()
        export_manifest.write(stage(record), content)
    return ExportResult(content, [*paths, record])


def _copy(source: str, target: str) -> None:
    """Copies a local file or folder to a local or remote path.

    In an object store, the files of a folder appear one by one. `MARKER` is therefore removed first and written last,
    and export.json has the hash of the old folder until the new one is complete.
    """
    if not os.path.isdir(source):
        with open(source, "rb") as file:
            files.write_bytes(target, file.read())
        return
    if files.exists(target):
        if files.exists(os.path.join(target, MARKER)):
            files.remove(os.path.join(target, MARKER))
        files.remove_tree(target)
    for name in sorted(files.list_files(source), key=lambda name: name == MARKER):
        _copy(os.path.join(source, name), os.path.join(target, name))
