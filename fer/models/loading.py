"""Opens a model for evaluation by its path: a run with its best weights, an export, or the bundled network."""

from __future__ import annotations

import dataclasses
import importlib.resources
import os
from typing import TYPE_CHECKING, Any, Callable

from fer import config, storage
from fer.errors import UserError
from fer.io import files
from fer.models import export_manifest, run_reader

if TYPE_CHECKING:
    import tensorflow as tf

EPOCH_COUNTS = ("epoch", "step")  # fields of an entry in history.json that are whole numbers
EPOCH_FIELDS = (
    *EPOCH_COUNTS,
    *("learning_rate", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
    *("validation_macro_f1", "seconds"),
)
BUNDLED = "bundled"  # --workdir of the network in the package


@dataclasses.dataclass(frozen=True)
class Run(run_reader.LoadedRun):
    """A run as evaluation needs it. The model of an export has no accessible layers."""

    workdir: str
    parameters: int  # number of weights, trainable or not
    export: dict[str, Any] | None = None  # format, precision, file and sha256 of an export; None for a run itself


def check(workdir: str) -> None:
    """Checks, without TensorFlow, that `open_run` can find a local path; paths in a store are not checked.

    Raises:
      UserError: as `open_run`, for missing files.
    """
    if workdir == BUNDLED:
        _check_bundled()
    elif not storage.is_remote(workdir) and _find_export(workdir) is None:
        _check_folder(workdir)
        run_reader.check(workdir)


def open_run(workdir: str) -> Run:
    """Opens a run, an export or the bundled network.

    Args:
      workdir: a run directory for `fer.models.run_reader.read`; or a folder that scripts/export.py wrote, for its
        most exact export, or one of the exports in it; or "bundled", the network in the package.

    Raises:
      UserError: the folder is missing, has no trained model yet, a file is damaged, the weights are not those of
        best.json, or the configuration is of another version.
    """
    if workdir == BUNDLED:
        return _open_bundled()
    found = _find_export(workdir)
    if found is not None:
        return _open_export(workdir, found)
    _check_folder(workdir)
    return open_folder(workdir)


def open_network(workdir: str) -> Callable[..., tf.Tensor]:
    """Opens a network for prediction only. The bundled network is a graph that does not need Keras.

    Returns:
      A network for `fer.evaluation.inference.predict`.

    Raises:
      UserError: as `open_run`.
    """
    if workdir != BUNDLED:
        return open_run(workdir).model
    _check_bundled()
    return run_reader.read_graph(bundle_folder()) or open_run(workdir).model


def open_folder(workdir: str, precision: str | None = None) -> Run:
    """Opens the run in a folder that has a best.json.

    Args:
      workdir: the folder.
      precision: of the network; by default that of the configuration.

    Raises:
      UserError: as `open_run`.
    """
    found = run_reader.read(workdir, precision)
    return Run(**vars(found), workdir=workdir, parameters=found.model.count_params())


def bundle_folder() -> str:
    """Returns the folder of the bundled network."""
    return str(importlib.resources.files("fer.models").joinpath("bundled"))


def results_folder(workdir: str) -> str:
    """Returns the folder for the results of a workdir: itself, or one beside an export that is named by its file.

    Raises:
      UserError: the workdir is the bundled network; the package folder must not be changed.
    """
    if workdir == BUNDLED:
        raise UserError(f"--output is missing: {BUNDLED} names a network within the package: set --output to a folder.")
    found = _find_export(workdir)
    by_file = found is not None and os.path.normpath(found.path) == os.path.normpath(workdir)
    return f"{os.path.splitext(workdir.rstrip('/'))[0]}-results" if by_file else workdir


def read_history(workdir: str) -> list[dict[str, Any]]:
    """Returns the entries of history.json, one an epoch, with `EPOCH_FIELDS` and more.

    Raises:
      UserError: it is missing or damaged.
    """
    path = os.path.join(workdir, "history.json")
    history = files.read_json(path, "the record of the run's epochs")
    if not isinstance(history, list) or not history or not all(isinstance(entry, dict) for entry in history):
        raise UserError(f"{path} is not a list of epochs: it is damaged.")
    for number, entry in enumerate(history, 1):
        for field in EPOCH_FIELDS:
            value = entry.get(field)
            known = isinstance(value, int if field in EPOCH_COUNTS else (int, float)) and not isinstance(value, bool)
            if not known or not 0 <= value < (2**31 if field in EPOCH_COUNTS else 1e300):
                raise UserError(f"{path}, entry {number}: {field} is {value!r}, which no epoch has: it is damaged.")
    return history


def holds_only_results(folder: str) -> bool:
    """Returns whether the folder holds results of an evaluation, but no model that could be evaluated again."""
    if folder == BUNDLED:
        return False
    model_files = ("best.json", "checkpoints", "export.json")  # files of runs, also unfinished ones, and of exports
    holds_results = files.exists(os.path.join(folder, "eval.json"))
    return holds_results and not any(files.exists(os.path.join(folder, name)) for name in model_files)


def _check_folder(workdir: str) -> None:
    if not files.isdir(workdir):
        raise UserError(
            f"There is no run folder {workdir}; --workdir names one that scripts/train.py wrote, an export of one that "
            f"scripts/export.py wrote, or {BUNDLED}."
        )


def _check_bundled() -> None:
    if not files.exists(os.path.join(bundle_folder(), "best.json")):
        raise UserError(
            "This copy of fer carries no network: create one in fer/models/bundled with scripts/export.py "
            "--format=bundle, or set --workdir to a run folder."
        )


def _find_export(workdir: str) -> export_manifest.ExportEntry | None:
    """Returns the export that `workdir` names, or None for a run."""
    return None if files.exists(os.path.join(workdir, "best.json")) else export_manifest.find(workdir)


def _open_bundled() -> Run:
    """Opens the bundled network in float32, which is fast on every machine."""
    _check_bundled()
    return dataclasses.replace(open_folder(bundle_folder(), "float32"), workdir=BUNDLED)


def _open_export(workdir: str, found: export_manifest.ExportEntry) -> Run:
    from fer.models import runtimes

    content, entry = found.content, found.entry
    run = content["run"]
    if config.sha256(run["config"]) != run["config_sha256"]:
        raise UserError(f"{workdir}: the config that {export_manifest.FILE} records was changed by hand; export again.")
    if export_manifest.size_and_sha256(found.path)[1] != entry["sha256"]:
        raise UserError(
            f"{found.path} is not what {export_manifest.FILE} lists: its SHA-256 differs. Copy it again or export anew."
        )
    return Run(
        workdir=workdir,
        config=config.from_dict(run["config"]),
        recorded=run["config"],
        config_sha256=run["config_sha256"],
        model=runtimes.load(found.path, entry["format"]),
        parameters=content["parameters"],
        precision="int8" if entry["precision"] == "int8" else "float32",
        step=run["checkpoint_step"],
        selected_on=run["selected_on"],
        weights_sha256=run["weights_sha256"],
        trained_on=run["trained_on"],
        export={name: entry[name] for name in ("format", "precision", "file", "sha256")},
    )
