"""Opens a model by its path: a run with its best weights, an export, or the bundled network."""

from __future__ import annotations

import dataclasses
import importlib.resources
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fer import config, flag_paths, storage
from fer.errors import UserError, command_name, join_names
from fer.io import files
from fer.models import export_manifest
from fer.run_dir import RunDir, check_averaged_records, check_initial_run_record

if TYPE_CHECKING:
    import tensorflow as tf

BUNDLED = "bundled"  # --workdir of the network in the package


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """A trained model and its origin. The model of an export has no accessible layers."""

    workdir: str
    config: config.Experiment
    recorded: dict[str, Any]  # the config as recorded, without fields that later versions added
    config_sha256: str  # of `recorded`
    model: tf.keras.Model  # uint8 [B, 48, 48, 1] to logits float32 [B, C], the best weights loaded
    parameters: int  # number of weights, trainable or not
    precision: str  # of the network's computation
    step: int  # training step of the best weights
    selected_on: str  # split that selected them
    weights_sha256: str
    trained_on: dict[str, str]  # name and manifest_sha256 of the training data
    classes: tuple[str, ...]  # the C names, in label order
    initialized_from: dict[str, Any] = dataclasses.field(default_factory=dict)  # `as_initial_run` of --init_from
    averaged: tuple[dict[str, Any], ...] = ()  # `as_initial_run` of each run of a model soup
    export: dict[str, Any] | None = None  # format, precision, file and sha256 of an export; None for a run itself

    def learned_from(self) -> dict[str, Any]:
        """Describes the sources of the training besides the labels of `trained_on`, as eval.json records them."""
        sources = {
            "weights": "none" if self.initialized_from else self.config.model.weights,  # which --init_from replaces
            "label_source": self.config.train.label_source,
            "teacher_runs": self.config.train.teacher_runs,
        }
        return {
            **sources,
            **({"init_from": self.initialized_from} if self.initialized_from else {}),
            **({"averaged": list(self.averaged)} if self.averaged else {}),
        }

    def as_initial_run(self) -> dict[str, Any]:
        """Describes the run for the records of a run that starts from its weights, see `run_dir.RunConfig`."""
        return {
            "run": self.workdir,
            "weights_sha256": self.weights_sha256,
            "config_sha256": self.config_sha256,
            "step": self.step,
            "trained_on": self.trained_on,
            "learned_from": self.learned_from(),
        }


def check(workdir: str) -> None:
    """Checks, without TensorFlow, that `open_run` can find a local path; paths in a store are not checked.

    Raises:
      UserError: as `open_run`, for missing files.
    """
    if workdir == BUNDLED:
        _check_bundled()
    elif not storage.is_remote(workdir) and _find_export(workdir) is None:
        _check_folder(workdir)
        RunDir(workdir).check_trained()


def check_same_classes(first: str, theirs: Sequence[str], second: str, ours: Sequence[str]) -> None:
    """Checks that two networks, or a network and data, have the same classes in the same order.

    Args:
      first: path of the one, for the message.
      theirs: its classes.
      second: path of the other.
      ours: its classes.

    Raises:
      UserError: they have not; the message names both sets.
    """
    if tuple(theirs) == tuple(ours):
        return
    advice = "both must have the same classes"
    if sorted(theirs) == sorted(ours):
        advice = f"their order differs; convert the data again with --classes={','.join(theirs)}"
    raise UserError(f"{first} has the classes {join_names(theirs)}, and {second} has {join_names(ours)}: {advice}.")


def check_initial_run(init_from: str) -> None:
    """Checks, without TensorFlow, that the run that --init_from names has weights; one in a store is not checked.

    Raises:
      UserError: it has none.
    """
    try:
        check(init_from)
    except UserError as error:
        raise UserError(f"--init_from: {error}") from error


def check_sources(experiment: config.Experiment, weights: bool = True) -> None:
    """Checks, without TensorFlow, that the local input files of an experiment exist.

    Args:
      experiment: validated.
      weights: whether the run loads `model.weights`; a run of --init_from does not.

    Raises:
      UserError: the file of `model.weights` or a run folder of `train.teacher_runs` is missing, or is a pipe or a
      device.
    """
    path = experiment.model.weights
    if weights and path not in ("none", "imagenet") and not storage.is_remote(path):
        if not os.path.exists(path):
            raise UserError(f"There is no weights file {path}, which config.model.weights names.")
        if os.path.isdir(path):
            raise UserError(f"{path}, which config.model.weights names, is a folder: name a file in it.")
        files.check_regular(path)
    for folder in teachers(experiment.train):
        if not storage.is_remote(folder):
            try:
                RunDir(folder).check_trained()
            except UserError as error:
                raise UserError(f"config.train.teacher_runs: {error}") from error


def teachers(train: config.Train) -> list[str]:
    """Returns the run directories in `train.teacher_runs`; an existing one may have a comma in its name."""
    return flag_paths.split(train.teacher_runs)


def open_run(workdir: str, precision: str | None = None) -> LoadedRun:
    """Opens a run, an export or the bundled network.

    Args:
      workdir: a run directory; or a folder that scripts/export.py wrote, for its
        most exact export, or one of the exports in it; or "bundled", the network in the package.
      precision: of a run's network, as for `open_folder`.

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
    return open_folder(workdir, precision)


def read_classes(workdirs: Sequence[str]) -> tuple[str, ...]:
    """Reads the classes of networks whose predictions are averaged, without opening the networks.

    Args:
      workdirs: at least one, as for `open_run`.

    Raises:
      UserError: two have different classes, or one cannot be read.
    """
    first, *others = (_read_classes(workdir) for workdir in workdirs)
    for workdir, classes in zip(workdirs[1:], others):
        check_same_classes(workdirs[0], first, workdir, classes)
    return first


def _read_classes(workdir: str) -> tuple[str, ...]:
    found = None if workdir == BUNDLED else _find_export(workdir)
    if found is not None:
        return tuple(found.content["classes"])
    return RunDir(bundle_folder() if workdir == BUNDLED else workdir).read_config().classes


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
    return _read_graph(bundle_folder()) or open_run(workdir).model


def open_folder(workdir: str, precision: str | None = None) -> LoadedRun:
    """Opens the run in a folder that has a best.json.

    Args:
      workdir: the folder.
      precision: of the network; by default that of the configuration, or float32 if this machine cannot compute in
        it. "auto" becomes the fastest precision of this machine.

    Raises:
      UserError: as `open_run`, or the precision cannot be computed here.
    """
    from fer.models import classifier, weights  # here, so that `check` does not import TensorFlow
    from fer.models.precision import best_precision, check_computable, is_computable

    best, recorded = RunDir(workdir).read_best(), RunDir(workdir).read_config()
    if not precision:
        precision = recorded.experiment.train.precision
        if not is_computable(precision):
            print(f"{workdir} is computed in float32: this machine cannot compute in {precision}.", file=sys.stderr)
            precision = "float32"
    if precision == "auto":  # training records the precision that it resolved; a config.json from elsewhere may not
        precision, _ = best_precision()
    check_computable(precision)
    best.check_files()
    model = classifier.build(recorded.experiment.model, precision, seed=None, classes=len(recorded.classes))
    weights.load(model, best.path)
    return LoadedRun(
        workdir=workdir,
        config=recorded.experiment,
        recorded=recorded.recorded,
        config_sha256=recorded.sha256,
        model=model,
        parameters=model.count_params(),
        precision=precision,
        step=best.step,
        selected_on=best.selected_on,
        weights_sha256=best.sha256,
        trained_on=recorded.trained_on,
        classes=recorded.classes,
        initialized_from=recorded.initialized_from,
        averaged=recorded.averaged,
    )


def _read_graph(folder: str) -> Callable[..., tf.Tensor] | None:
    """Reads the inference graph of a folder with trusted content, such as the bundle in the package.

    Returns:
      The network of `fer.models.inference_graph.read` with its weights; None if there is no graph.

    Raises:
      UserError: a file is missing or damaged, or is not the one that best.json names.
    """
    from fer.models import inference_graph, weights

    best = RunDir(folder).read_best()
    if best.graph is None:
        return None
    best.check_files(graph=True)
    return inference_graph.read(best.graph, list(weights.read(best.path).values()))


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


def holds_only_results(folder: str) -> bool:
    """Returns whether the folder holds results of an evaluation, but no model that could be evaluated again."""
    if folder == BUNDLED:
        return False
    run = RunDir(folder)
    has_exports = files.exists(os.path.join(folder, export_manifest.FILE))
    return files.exists(run.eval_file) and not has_exports and not run.is_run()


def _check_folder(workdir: str) -> None:
    if not files.isdir(workdir):
        raise UserError(
            f"There is no run folder {workdir}; --workdir names one that {command_name('train')} wrote, an export "
            f"of one that {command_name('export')} wrote, or {BUNDLED}."
        )


def _check_bundled() -> None:
    if not files.exists(RunDir(bundle_folder()).best_file):
        raise UserError(
            f"This copy of fer carries no network: create one in fer/models/bundled with {command_name('export')} "
            "--format=bundle, or set --workdir to a run folder."
        )


def _find_export(workdir: str) -> export_manifest.ExportEntry | None:
    """Returns the export that `workdir` names, or None for a run."""
    return None if files.exists(RunDir(workdir).best_file) else export_manifest.find(workdir)


def _open_bundled() -> LoadedRun:
    """Opens the bundled network in float32, which is fast on every machine."""
    _check_bundled()
    return dataclasses.replace(open_folder(bundle_folder(), "float32"), workdir=BUNDLED)


def _open_export(workdir: str, found: export_manifest.ExportEntry) -> LoadedRun:
    from fer.models import runtimes

    content, entry = found.content, found.entry
    run = content["run"]
    if config.sha256(run["config"]) != run["config_sha256"]:
        raise UserError(f"{workdir}: the config that {export_manifest.FILE} records was changed by hand; export again.")
    if export_manifest.size_and_sha256(found.path)[1] != entry["sha256"]:
        raise UserError(
            f"{found.path} is not what {export_manifest.FILE} lists: its SHA-256 differs. Copy it again or export anew."
        )
    manifest = os.path.join(os.path.dirname(found.path), export_manifest.FILE)
    return LoadedRun(
        workdir=workdir,
        config=config.from_record(run["config"]),
        recorded=run["config"],
        config_sha256=run["config_sha256"],
        model=runtimes.load(found.path, entry["format"], len(content["classes"])),
        parameters=content["parameters"],
        precision="int8" if entry["precision"] == "int8" else "float32",
        step=run["checkpoint_step"],
        selected_on=run["selected_on"],
        weights_sha256=run["weights_sha256"],
        trained_on=run["trained_on"],
        classes=tuple(content["classes"]),
        initialized_from=check_initial_run_record(run.get("init_from", {}), manifest),
        averaged=check_averaged_records(run.get("averaged", []), manifest),
        export={name: entry[name] for name in ("format", "precision", "file", "sha256")},
    )
