"""Delta weights: a run as the difference of its weights from published weights that it was fine-tuned from.

A run whose initial weights may not be redistributed can be kept in this form: with the published weights, the network
is restored. A delta is the folder of a run with its config.json, without best.json; see `fer.run_dir`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fer.config import Experiment
from fer.errors import UserError
from fer.export import export
from fer.io import files, temp_files
from fer.io.transaction import publish
from fer.models import classifier, loading, pretrained, weights
from fer.run_dir import BEST_FILE, CONFIG_FILE, DELTA_FILE, DELTA_RECORD_FILE, DeltaRecord, RunDir

MIN_ROUNDED = 10_000  # values of the smallest array whose difference is rounded to float16; others are float32
TOLERANCE = 1e-4  # of checksums, as a share of the norm; other processors measure statistics of the base to rounding


def make_delta(workdir: str, base: str, output: str) -> tuple[str, ...]:
    """Writes the delta of a run.

    The differences of large arrays are float16, those of small ones (biases, normalization) float32. Arrays that the
    base does not have, such as the head, are differences from zero.

    Args:
      workdir: run directory.
      base: the published weights, as for the configuration field `model.weights`; the run's own configuration may name
        those of an earlier run.
      output: folder of the delta; config.json in it is replaced.

    Returns:
      The paths of the written files.

    Raises:
      UserError: the run or the base weights cannot be read or have different architectures, a difference is too large
        for float16, or `output` holds another run or cannot be written. Nothing is written then.
    """
    source = RunDir(workdir)
    if workdir == loading.BUNDLED or (files.exists(source.best_file) and source.read_best().rounded_to):
        raise UserError(f"--workdir={workdir} is a bundle, which is distributed as it is; name a run.")
    run, best = export.open_exportable_run(workdir), source.read_best()
    if best.sha256 != run.weights_sha256:
        raise UserError(f"The best weights of {workdir} were replaced while they were read. Run the command again.")
    config_json = files.read_bytes(source.config_file, f"{workdir} has no {CONFIG_FILE}.")
    _check_output(output, config_json)
    initial = _load_base(run.config, base, run.classes).get_weights()
    arrays = [_subtract(ours, theirs, workdir) for ours, theirs in zip(run.model.get_weights(), initial)]
    restored = [_add(difference, start) for difference, start in zip(arrays, initial)]
    record = DeltaRecord(os.path.basename(base), run.step, best.accuracy, best.sha256, _checksums(restored))
    with temp_files.folder("delta") as folder:
        files.write_bytes(RunDir(folder).config_file, config_json)
        files.write_bytes(os.path.join(folder, DELTA_FILE), weights.pack(arrays, np.savez_compressed))
        RunDir(folder).write_delta_record(record)
        return tuple(publish(folder, [DELTA_FILE, CONFIG_FILE, DELTA_RECORD_FILE], output))


def apply_delta(delta: str, base: str, output: str) -> tuple[str, ...]:
    """Restores the run of a delta.

    Args:
      delta: folder that `make_delta` wrote.
      base: the published weights that the delta was made with.
      output: the new run directory.

    Returns:
      The paths of the written files.

    Raises:
      UserError: a file is missing or damaged, the base weights are not those of the delta, or `output` exists or
        cannot be written. Nothing is written then.
    """
    RunDir(output).check_new()
    record, config = RunDir(delta).read_delta_record(), RunDir(delta).read_config()
    path = os.path.join(delta, DELTA_FILE)
    arrays = list(weights.read(path).values())
    model = _load_base(config.experiment, base, config.classes)
    weights.check_shapes(model.weights, arrays, path, model.name)
    restored = [_add(difference, start) for difference, start in zip(arrays, model.get_weights())]
    _check_restored(restored, record, delta, base)
    model.set_weights(restored)
    with temp_files.folder("delta") as folder:
        staged = RunDir(folder)
        config_json = files.read_bytes(RunDir(delta).config_file, f"{delta} has no {CONFIG_FILE}.")
        files.write_bytes(staged.config_file, config_json)
        staged.write_best(
            weights.to_bytes(model.weights), {"step": record.step, "validation_accuracy": record.accuracy}
        )
        best = os.path.relpath(staged.read_best().path, folder)
        return tuple(publish(folder, [best, CONFIG_FILE, BEST_FILE], output))  # best.json makes the folder a run


def _check_output(output: str, config_json: bytes) -> None:
    """Checks that the folder can be written to, and holds no run or only the records of the same run.

    Raises:
      UserError: it cannot, or it does not.
    """
    run = RunDir(output)
    files.check_writable(os.path.join(output, DELTA_FILE))
    if files.exists(run.best_file) or files.isdir(run.checkpoints):
        raise UserError(f"--output={output} is a run directory; choose another folder, such as {output}/delta.")
    if files.exists(run.config_file) and files.read_bytes(run.config_file, "") != config_json:
        raise UserError(f"--output={output} holds the {CONFIG_FILE} of another run; choose another folder.")


def _check_restored(restored: Sequence[np.ndarray], record: DeltaRecord, delta: str, base: str) -> None:
    """Checks the checksums of restored arrays.

    Raises:
      UserError: they differ from those of the delta.
    """
    found = _checksums(restored)
    limits = [TOLERANCE * max(float(np.linalg.norm(array)), 1e-6) for array in restored]
    if len(found) != len(record.checksums) or any(
        abs(ours - theirs) > limit for ours, theirs, limit in zip(found, record.checksums, limits)
    ):
        raise UserError(
            f"{base} holds other weights than the {record.base} that {delta} was made with. Import them again, or name "
            "them with --base."
        )


def _load_base(experiment: Experiment, base: str, classes: Sequence[str]) -> tf.keras.Model:
    """Builds a classifier in float32 with base weights.

    Weights that the base does not have, such as the head, are zero.
    """
    config = dataclasses.replace(experiment.model, weights=base)
    model = classifier.build(config, "float32", classes=len(classes))
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    pretrained.load(model, config, classes)
    return model


def _subtract(trained: np.ndarray, initial: np.ndarray, workdir: str) -> np.ndarray:
    """Returns the difference of an array as a delta holds it: float16 if it is large, else float32.

    Raises:
      UserError: the difference is too large for float16.
    """
    difference = trained - initial
    if trained.size < MIN_ROUNDED:
        return difference
    if np.abs(difference).max() > np.finfo(np.float16).max:
        raise UserError(f"{workdir} differs from its base weights by more than float16 holds: it has diverged.")
    return difference.astype(np.float16)


def _add(difference: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """Returns the array that `_subtract` was given, up to rounding."""
    return initial + difference.astype(np.float32)


def _checksums(arrays: Sequence[np.ndarray]) -> list[float]:
    """Returns a checksum of each array that small changes change little: the sum of its values with random signs.

    The checksum of an error is about as large as the norm of the error.
    """
    random = np.random.default_rng(0)
    return [float(array.astype(np.float64).ravel() @ random.choice([-1.0, 1.0], array.size)) for array in arrays]
