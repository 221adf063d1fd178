"""A network as training left it: the configuration and the best weights of a run folder, both checked."""

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
    """What a run folder holds."""

    config: config.Experiment
    recorded: dict[str, Any]  # the config as it was recorded: fields that a later version has added are not in it
    config_sha256: str  # of that
    model: tf.keras.Model  # uint8 [B, 48, 48, 1] to logits float32 [B, 7], the best weights loaded
    precision: str  # what the network computes in
    step: int  # of the training, at which these weights were the best
    selected_on: str  # the split on which they were the best
    weights_sha256: str
    trained_on: dict[str, str]  # name and manifest_sha256 of the training data


def check(folder: str) -> None:
    """Looks whether training has left something to read in a folder, without TensorFlow.

    Raises:
      UserError: it has not.
    """
    if not files.exists(os.path.join(folder, "best.json")):
        raise UserError(
            f"{folder} holds no best.json: train first, with scripts/train.py --workdir={shlex.quote(folder)}."
        )


def check_sources(experiment: config.Experiment) -> None:
    """Checks that the local files that an experiment begins with are there, without TensorFlow.

    Raises:
      UserError: the file of `model.weights` or a run folder of `train.teacher` is missing, or is a pipe or a device.
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
                raise UserError(f"config.train.teacher: {error}") from error


def teachers(train: config.Train) -> list[str]:
    """Returns the run folders that `train.teacher` names; a folder that exists may have a comma in its name."""
    return flag_paths.split(train.teacher)


def read(folder: str, precision: str | None = None) -> LoadedRun:
    """Reads the network in a folder.

    Args:
      folder: holds config.json ({"config", "config_sha256", "data", ...}) and best.json ({"step", "file", "sha256",
        "selected_on", ...}), which training writes.
      precision: what the network is to compute in; None leaves it to the configuration. "auto" becomes the fastest
        precision of this machine.

    Raises:
      UserError: nothing was trained in the folder yet, a file is damaged, the weights are not those that best.json
        names, the configuration is another version's, or the precision cannot be computed here.
    """
    from fer.models import classifier, weights  # here, so that `check` does without TensorFlow
    from fer.models.precision import best_precision, check_computable

    check(folder)
    best_file = os.path.join(folder, "best.json")
    best = files.read_json(best_file, "the record of the best weights")
    experiment, recorded, data = _configuration(folder)
    precision = precision or experiment.train.precision
    if precision == "auto":  # training records the precision that it resolved; a config.json from elsewhere may not
        precision, _ = best_precision()
    check_computable(precision)
    name, sha256 = _take(best, "file", str, best_file), _take(best, "sha256", str, best_file)
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
        step=_take(best, "step", int, best_file),
        selected_on=_take(best, "selected_on", str, best_file),
        weights_sha256=sha256,
        trained_on=data,
    )


def read_graph(folder: str) -> Callable[..., tf.Tensor] | None:
    """Reads the graph of inference that lies in a folder whose content is trusted, as a bundle's is in the package.

    Returns:
      The network as `fer.models.inference_graph.read` gives it, its weights loaded; None where there is no graph.

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
        names[name] = files.join_inside(folder, _take(best, name, str, best_file), best_file)
        _check_file(names[name], _take(best, sha256, str, best_file), {"file": "weights file"}.get(name, name))
    return inference_graph.read(names["graph"], list(weights.read(names["file"]).values()))


def _configuration(folder: str) -> tuple[config.Experiment, dict[str, Any], dict[str, str]]:
    """The experiment that config.json records, all that it records, and the data that it was trained on."""
    path = os.path.join(folder, "config.json")
    recorded = files.read_json(path, "the run's configuration")
    try:
        experiment = config.from_dict(_take(recorded, "config", dict, path))
    except UserError as error:
        raise UserError(f"{path} is of another version of fer: {error}") from error
    sha256 = _take(recorded, "config_sha256", str, path)
    if config.sha256(recorded["config"]) != sha256:
        raise UserError(
            f"{path} was changed by hand: its config does not have the hash that it records. Put it back as it was, "
            "or train anew."
        )
    data = _take(recorded, "data", dict, path)
    return experiment, recorded, {name: _take(data, name, str, path) for name in ("name", "manifest_sha256")}


def _take(values: Any, name: str, kind: type, path: str) -> Any:
    """A field of the JSON object that `path` holds, of the type that it must have."""
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
