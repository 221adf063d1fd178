"""Loads the configuration and the best weights of a run directory, and verifies both."""

from __future__ import annotations

import dataclasses
import os
import shlex
from typing import TYPE_CHECKING, Any, Callable

from fer import config, flag_paths
from fer.errors import UserError
from fer.io import files
from fer.storage import is_remote

if TYPE_CHECKING:
    import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class LoadedRun:
    """Content of a run directory."""

    config: config.Experiment
    recorded: dict[str, Any]  # the config as recorded, without fields that later versions added
    config_sha256: str  # of `recorded`
    model: tf.keras.Model  # uint8 [B, 48, 48, 1] to logits float32 [B, 7], the best weights loaded
    precision: str  # of the network's computation
    step: int  # training step of the best weights
    selected_on: str  # split that selected them
    weights_sha256: str
    trained_on: dict[str, str]  # name and manifest_sha256 of the training data


def check(folder: str) -> None:
    """Checks, without TensorFlow, that a folder holds a trained model.

    Raises:
      UserError: it holds none.
    """
    if not files.exists(os.path.join(folder, "best.json")):
        raise UserError(
            f"{folder} holds no best.json: train first, with scripts/train.py --workdir={shlex.quote(folder)}."
        )


def check_sources(experiment: config.Experiment) -> None:
    """Checks, without TensorFlow, that the local input files of an experiment exist.

    Raises:
      UserError: the file of `model.weights` or a run folder of `train.teacher_runs` is missing, or is a pipe or a
      device.
    """
    path = experiment.model.weights
    if path not in ("none", "imagenet") and not is_remote(path):
        if not os.path.exists(path):
            raise UserError(f"There is no weights file {path}, which config.model.weights names.")
        if os.path.isdir(path):
            raise UserError(f"{path}, which config.model.weights names, is a folder: name a file in it.")
        files.check_regular(path)
    for folder in teachers(experiment.train):
        if not is_remote(folder):
            try:
                check(folder)
            except UserError as error:
                raise UserError(f"config.train.teacher_runs: {error}") from error


def teachers(train: config.Train) -> list[str]:
    """Returns the run directories in `train.teacher_runs`; an existing one may have a comma in its name."""
    return flag_paths.split(train.teacher_runs)


def read(folder: str, precision: str | None = None) -> LoadedRun:
    """Reads the network in a folder.

    Args:
      folder: holds config.json ({"config", "config_sha256", "data", ...}) and best.json ({"step", "file", "sha256",
        "selected_on", ...}), which training writes.
      precision: of the network; by default that of the configuration. "auto" becomes the fastest precision of this
        machine.

    Raises:
      UserError: the folder has no trained model yet, a file is damaged, the weights are not those of best.json, the
        configuration is of another version, or the precision cannot be computed here.
    """
    from fer.models import classifier, weights  # here, so that `check` does not import TensorFlow
    from fer.models.precision import best_precision, check_computable

    check(folder)
    best_file = os.path.join(folder, "best.json")
    best = files.read_json(best_file, "the record of the best weights")
    experiment, recorded, data = _read_config(folder)
    precision = precision or experiment.train.precision
    if precision == "auto":  # training records the precision that it resolved; a config.json from elsewhere may not
        precision, _ = best_precision()
    check_computable(precision)
    name, sha256 = _get_field(best, "file", str, best_file), _get_field(best, "sha256", str, best_file)
    weights_file = files.join_inside(folder, name, best_file)
    _check_file(weights_file, sha256, "weights file")
    model = classifier.build(experiment.model, precision)
    weights.load(model, weights_file)
    return LoadedRun(
        config=experiment,
        recorded=recorded["config"],
        config_sha256=recorded["config_sha256"],
        model=model,
        precision=precision,
        step=_get_field(best, "step", int, best_file),
        selected_on=_get_field(best, "selected_on", str, best_file),
        weights_sha256=sha256,
        trained_on=data,
    )


def read_graph(folder: str) -> Callable[..., tf.Tensor] | None:
    """Reads the inference graph of a folder with trusted content, such as the bundle in the package.

    Returns:
      The network of `fer.models.inference_graph.read` with its weights; None if there is no graph.

    Raises:
      UserError: a file is missing or damaged, or is not the one that best.json names.
    """
    from fer.models import inference_graph, weights

    check(folder)
    best_file = os.path.join(folder, "best.json")
    best = files.read_json(best_file, "the record of the best weights")
    if "graph" not in best:
        return None
    names = {}
    for name, sha256 in (("file", "sha256"), ("graph", "graph_sha256")):
        names[name] = files.join_inside(folder, _get_field(best, name, str, best_file), best_file)
        _check_file(names[name], _get_field(best, sha256, str, best_file), {"file": "weights file"}.get(name, name))
    return inference_graph.read(names["graph"], list(weights.read(names["file"]).values()))


def _read_config(folder: str) -> tuple[config.Experiment, dict[str, Any], dict[str, str]]:
    """Returns the experiment in config.json, its whole content, and name and hash of the training data."""
    path = os.path.join(folder, "config.json")
    recorded = files.read_json(path, "the run's configuration")
    try:
        experiment = config.from_dict(_get_field(recorded, "config", dict, path))
    except UserError as error:
        raise UserError(f"{path} is of another version of fer: {error}") from error
    sha256 = _get_field(recorded, "config_sha256", str, path)
    if config.sha256(recorded["config"]) != sha256:
        raise UserError(
            f"{path} was changed by hand: its config does not match the hash in it. Restore the file, or train again."
        )
    data = _get_field(recorded, "data", dict, path)
    return experiment, recorded, {name: _get_field(data, name, str, path) for name in ("name", "manifest_sha256")}


def _get_field(values: Any, name: str, kind: type, path: str) -> Any:
    """Returns a field of the JSON object in the file `path`, after a check of its type."""
    value = values.get(name) if isinstance(values, dict) else None
    if not isinstance(value, kind):
        raise UserError(f"{path} has no {name} of type {kind.__name__}: it is damaged or of another version of fer.")
    return value


def _check_file(path: str, expected: str, what: str) -> None:
    if not files.exists(path):
        raise UserError(f"There is no {what} {path}, which best.json names; copy it back or train anew.")
    if files.sha256(path) != expected:
        raise UserError(
            f"{path} is not the file that best.json names: its SHA-256 differs. Copy it again or train anew."
        )
