"""Run directory: the names and formats of a run's files, which no other module knows.

    config.json      the experiment, the hash of the data, versions, commit: written first. A run that was made longer
                     has the new config here and each earlier one, with its hash and last step, in earlier_configs
    history.json     one entry per epoch; history.csv has the same numbers
    curves.png       plot of the history
    rollbacks.json   the rollbacks, if there were any (train.on_nan)
    best.json        the best weights, selected on the validation split
    checkpoints/     best-*.npz (weights to evaluate) and step-*/ (states to resume from, each with a checkpoint.json)
    events/          TensorBoard
    soup.json        of a model soup (fer.export.model_soup): the runs, their accuracies and that of the mean. A soup is
                     a run directory without history and states; config.json is that of its first run, with the
                     records of all in averaged
    delta.npz        of a run that is kept as the difference from published weights (fer.export.weight_delta): its
                     differences; delta.json has checksums of its weights. Such a folder has no best.json
    mlflow.json      id of the run in MLflow, if it is logged there (fer.train.mlflow_logging)
    owner.json       the process that trains in it now (fer.train.run_lock)
    eval.json        the evaluation, and predictions.npz with its probabilities (fer.evaluation)

A bundle (fer.export.bundle) is a run directory too, without history and checkpoints:

    weights.npz      the best weights in float16
    graph.pb         the inference graph
    MODEL_CARD.md    the model card

Nothing here needs TensorFlow, except for its version in config.json.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import fer
from fer import config
from fer.config import Experiment
from fer.errors import UserError, command_name
from fer.io import files
from fer.labels import CLASSES, check_classes
from fer.storage import is_remote

CONFIG_FILE = "config.json"
HISTORY_FILE = "history.json"
HISTORY_TABLE = "history.csv"
CURVES_FILE = "curves.png"
ROLLBACKS_FILE = "rollbacks.json"
BEST_FILE = "best.json"
CHECKPOINTS = "checkpoints"
EVENTS = "events"
OWNER_FILE = "owner.json"
MLFLOW_FILE = "mlflow.json"
SOUP_FILE = "soup.json"
DELTA_FILE, DELTA_RECORD_FILE = "delta.npz", "delta.json"
EVAL_FILE = "eval.json"
PREDICTIONS_FILE = "predictions.npz"
CHECKPOINT_FILE = "checkpoint.json"  # last file of a checkpoint
WEIGHTS_FILE, GRAPH_FILE, CARD_FILE = "weights.npz", "graph.pb", "MODEL_CARD.md"  # of a bundle

_STATE_FILES = (CONFIG_FILE, HISTORY_FILE, CURVES_FILE, ROLLBACKS_FILE, BEST_FILE)

LENGTH_FIELDS = ("train.epochs", "train.max_steps")  # fields of a config that a later command may raise

EPOCH_COUNTS = ("epoch", "step")  # fields of an entry in history.json that are whole numbers
EPOCH_FIELDS = (
    *EPOCH_COUNTS,
    *("learning_rate", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
    *("validation_macro_f1", "seconds"),
)
Entry = dict[str, Any]  # of history.json, one an epoch, with `EPOCH_FIELDS` and more


class TrainingData(Protocol):
    """The data of a run, as `fer.data.manifest.Manifest` describes them."""

    @property
    def folder(self) -> str:
        """Folder of the shards."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the manifest's file."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""

    def record(self) -> dict[str, Any]:
        """Returns name, manifest_sha256 and examples_per_split."""


class Teacher(NamedTuple):
    """Record of a teacher in config.json."""

    weights_sha256: str
    config_sha256: str = ""
    step: int = 0
    began_with: str = "none"  # its initial weights: the run of --init_from, or `model.weights` of its config


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Content of config.json."""

    experiment: Experiment
    recorded: dict[str, Any]  # the config as recorded, without fields that later versions added
    sha256: str  # of `recorded`
    trained_on: dict[str, str]  # name and manifest_sha256 of the training data
    classes: tuple[str, ...]  # of the training data, in label order
    train_examples: int  # of the training data
    versions: dict[str, str]  # of the software, by name
    teachers: tuple[Teacher, ...]  # in the order of `train.teacher_runs`
    initialized_from: dict[str, Any]  # the run of --init_from, see `check_initial_run_record`; empty if none
    averaged: tuple[dict[str, Any], ...] = ()  # the runs whose weights were averaged, each recorded like an initial run


@dataclasses.dataclass(frozen=True)
class BestWeights:
    """Content of best.json."""

    step: int  # training step of the weights
    selected_on: str  # split that selected them
    path: str  # of the .npz
    sha256: str  # of the .npz
    accuracy: float = 0.0  # on that split; 0 of a bundle, whose eval.json has it
    graph: str | None = None  # path of a bundle's inference graph
    graph_sha256: str | None = None
    rounded_to: str | None = None  # data type of a bundle's weights

    def check_files(self, graph: bool = False) -> None:
        """Checks that the weights, or with `graph` the weights and the graph, are the files that best.json names.

        Raises:
          UserError: a file is missing, or its SHA-256 differs.
        """
        _check_sha256("weights file", self.path, self.sha256)
        if graph and self.graph and self.graph_sha256:
            _check_sha256("graph", self.graph, self.graph_sha256)


class DeltaRecord(NamedTuple):
    """Content of delta.json: the best weights of a run, of which delta.npz has the differences."""

    base: str  # name of the file of the published weights
    step: int  # training step of the weights
    accuracy: float  # on validation, which selected them
    weights_sha256: str  # of the run's .npz, which the restored weights equal up to rounding
    checksums: Sequence[float]  # of each restored array, in the order of `model.weights`


class Rollback(NamedTuple):
    """A return to a checkpoint after loss or weights became NaN or infinite."""

    step: int  # whose loss or weights were NaN or infinite
    to: int  # the step of the checkpoint that the run returned to


class CheckpointRecord(NamedTuple):
    """Content of checkpoint.json."""

    step: int
    seconds: float = 0.0  # of training and validation so far, over all sessions
    rollbacks: Sequence[Rollback] = ()
    files: Mapping[str, str] = MappingProxyType({})  # SHA-256 of the other files of the checkpoint, by name


@dataclasses.dataclass(frozen=True)
class RunDir:
    """The files of one run."""

    path: str
    url: str = ""  # of the store that `path` is a local copy of

    @property
    def name(self) -> str:
        """Path in messages."""
        return self.url or self.path

    @property
    def config_file(self) -> str:
        """Path of config.json."""
        return os.path.join(self.path, CONFIG_FILE)

    @property
    def history_file(self) -> str:
        """Path of history.json."""
        return os.path.join(self.path, HISTORY_FILE)

    @property
    def best_file(self) -> str:
        """Path of best.json."""
        return os.path.join(self.path, BEST_FILE)

    @property
    def eval_file(self) -> str:
        """Path of eval.json."""
        return os.path.join(self.path, EVAL_FILE)

    @property
    def predictions_file(self) -> str:
        """Path of predictions.npz."""
        return os.path.join(self.path, PREDICTIONS_FILE)

    @property
    def checkpoints(self) -> str:
        """Folder of the checkpoints."""
        return os.path.join(self.path, CHECKPOINTS)

    @property
    def events(self) -> str:
        """Folder of the TensorBoard events."""
        return os.path.join(self.path, EVENTS)

    def is_run(self) -> bool:
        """Returns whether the directory is that of a run: it has weights or checkpoints."""
        return files.exists(self.best_file) or files.exists(self.checkpoints)

    def check_trained(self) -> None:
        """Checks that the run has a model.

        Raises:
          UserError: it has none.
        """
        if files.exists(self.best_file):
            return
        if files.exists(os.path.join(self.path, DELTA_RECORD_FILE)):
            raise UserError(
                f"{self.name} holds the delta of a run: restore the run with {command_name('weight_delta')} and "
                f"--delta={shlex.quote(self.name)}."
            )
        raise UserError(
            f"{self.name} holds no {BEST_FILE}: train first, with {command_name('train')} and "
            f"--workdir={shlex.quote(self.name)}."
        )

    def check_new(self) -> None:
        """Checks that the directory can be written and holds nothing yet.

        Raises:
          UserError: it holds files or cannot be written.
        """
        files.check_writable(self.best_file)
        # In a store, an interrupted upload leaves files without best.json, which the next one replaces.
        exists = files.exists(self.best_file) if is_remote(self.path) else os.path.isdir(self.path)
        if exists and (is_remote(self.path) or os.listdir(self.path)):
            raise UserError(f"--output={self.name} exists and is not empty: choose a new directory.")

    def write_config(
        self,
        experiment: Experiment,
        data: TrainingData,
        teachers: Sequence[Teacher] = (),
        initialized_from: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Writes config.json, unless the run resumes.

        Args:
          experiment: the configuration.
          data: the shards.
          teachers: in the order of `train.teacher_runs`.
          initialized_from: record of the run whose weights this run loads before its first step; empty if there is
            none, or if the run resumes from a checkpoint. See `check_initial_run_record`.

        Raises:
          UserError: the run resumes, but started with other weights of the teachers or of the initial run.
        """
        if files.exists(self.config_file):
            recorded = self.read_config()
            if [each.weights_sha256 for each in recorded.teachers] != [each.weights_sha256 for each in teachers]:
                raise UserError(
                    f"The run in {self.name} started with other weights in the folders of config.train.teacher_runs "
                    f"({experiment.train.teacher_runs!r}): restore those weights, or choose another --workdir."
                )
            if initialized_from and initialized_from["weights_sha256"] != recorded.initialized_from["weights_sha256"]:
                raise UserError(
                    f"The run in {self.name} started with other weights in --init_from={initialized_from['run']}: "
                    "restore those weights, or choose another --workdir."
                )
            return
        files.write_json(
            self.config_file,
            {
                "config": experiment.to_dict(),
                "config_sha256": experiment.sha256(),
                "data": data.record(),
                "classes": list(data.classes),
                "versions": software_versions(),
                "git_commit": git_commit(),
                **({"teachers": [each._asdict() for each in teachers]} if teachers else {}),
                **({"initialized_from": dict(initialized_from)} if initialized_from else {}),
            },
        )

    def write_config_of_average(self, first: RunDir, averaged: Sequence[Mapping[str, Any]]) -> None:
        """Writes config.json of a model soup: that of its first run, with the records of all its runs.

        Args:
          first: directory of the first run.
          averaged: records of all runs, as in `RunConfig.averaged`.
        """
        content = files.read_json(first.config_file, "the run's configuration")
        files.write_json(self.config_file, {**content, "averaged": [dict(each) for each in averaged]})

    def extend_config(self, experiment: Experiment, last_step: int) -> None:
        """Records the config of a run that is made longer, and moves the one so far to earlier_configs.

        Does nothing if the run starts, or resumes with the same config.

        Args:
          experiment: differs from the recorded one in `LENGTH_FIELDS` only, which `check_run_dir` checks.
          last_step: of the newest checkpoint.
        """
        if not files.exists(self.config_file) or config.diff(self.read_config().experiment, experiment) == []:
            return
        content = files.read_json(self.config_file, "the run's config")
        earlier = {name: content.get(name) for name in ("config", "config_sha256", "versions", "git_commit")}
        new = {
            "config": experiment.to_dict(),
            "config_sha256": experiment.sha256(),
            "versions": software_versions(),
            "git_commit": git_commit(),
            "earlier_configs": [*content.get("earlier_configs", []), {**earlier, "last_step": last_step}],
        }
        files.write_json(self.config_file, {**content, **new})

    def find_config(self) -> RunConfig | None:
        """Reads config.json as `read_config`; returns None if there is none."""
        return self.read_config() if files.exists(self.config_file) else None

    def read_config(self) -> RunConfig:
        """Reads config.json.

        Raises:
          UserError: it is missing or damaged, was changed by hand, or is of another version.
        """
        path = self.config_file
        content = files.read_json(path, "the run's configuration")
        try:
            experiment = config.from_record(_get_field(content, "config", dict, path))
        except UserError as error:
            raise UserError(f"{path} is of another version of fer: {error}") from error
        sha256 = _get_field(content, "config_sha256", str, path)
        if config.sha256(content["config"]) != sha256:
            raise UserError(
                f"{path} was changed by hand: its config does not match the hash in it. Restore the file, or train "
                "again."
            )
        data = _get_field(content, "data", dict, path)
        return RunConfig(
            experiment=experiment,
            recorded=content["config"],
            sha256=sha256,
            trained_on={name: _get_field(data, name, str, path) for name in ("name", "manifest_sha256")},
            classes=_parse_classes(content, path),
            train_examples=_get_field(_get_field(data, "examples_per_split", dict, path), "train", int, path),
            versions=_get_field(content, "versions", dict, path),
            teachers=_parse_teachers(content.get("teachers", []), path),
            initialized_from=check_initial_run_record(content.get("initialized_from", {}), path),
            averaged=check_averaged_records(content.get("averaged", []), path),
        )

    def write_history(self, history: Sequence[Entry], curves: bytes) -> None:
        """Replaces history.json and history.csv, and curves.png by the PNG `curves`, each atomically.

        The checkpoint of the last entry must be written later. Then a run that is killed here writes all three again.
        """
        files.write_json(self.history_file, history)
        files.write_text(os.path.join(self.path, HISTORY_TABLE), _format_table(history))
        files.write_bytes(os.path.join(self.path, CURVES_FILE), curves)

    def read_history(self, until_step: int | None = None, required: bool = False) -> list[Entry]:
        """Reads history.json.

        Args:
          until_step: later entries are left out: a killed run may have written one more than it checkpointed.
          required: whether the file must exist.

        Returns:
          The entries; none if there is no file.

        Raises:
          UserError: the file is damaged, or is missing and required.
        """
        if not required and not files.exists(self.history_file):
            return []
        history = files.read_json(self.history_file, "the record of the run's epochs")
        _check_history(history, self.history_file)
        return [entry for entry in history if until_step is None or entry["step"] <= until_step]

    def write_soup(self, record: Mapping[str, Any]) -> None:
        """Writes soup.json."""
        files.write_json(os.path.join(self.path, SOUP_FILE), record)

    def write_delta_record(self, record: DeltaRecord) -> None:
        """Writes delta.json."""
        files.write_json(os.path.join(self.path, DELTA_RECORD_FILE), record._asdict())

    def read_delta_record(self) -> DeltaRecord:
        """Reads delta.json.

        Raises:
          UserError: it is missing or damaged.
        """
        path = os.path.join(self.path, DELTA_RECORD_FILE)
        content = files.read_json(path, "the record of a delta")
        checksums = _get_field(content, "checksums", list, path)
        if not all(isinstance(each, (int, float)) for each in checksums):
            raise UserError(f"{path} has a checksum that is no number: it is damaged.")
        return DeltaRecord(
            base=_get_field(content, "base", str, path),
            step=_get_field(content, "step", int, path),
            accuracy=_get_number(content, "accuracy", path),
            weights_sha256=_get_field(content, "weights_sha256", str, path),
            checksums=checksums,
        )

    def write_mlflow_run_id(self, run_id: str) -> None:
        """Writes mlflow.json."""
        files.write_json(os.path.join(self.path, MLFLOW_FILE), {"run_id": run_id})

    def read_mlflow_run_id(self) -> str:
        """Returns the id of the run in MLflow, or "" if there is none.

        Raises:
          UserError: mlflow.json is damaged.
        """
        path = os.path.join(self.path, MLFLOW_FILE)
        if not files.exists(path):
            return ""
        return _get_field(files.read_json(path, "the id of the run in MLflow"), "run_id", str, path)

    def write_rollbacks(self, rollbacks: Sequence[Rollback]) -> None:
        """Replaces rollbacks.json."""
        records = [{**each._asdict(), "batches_left_out": each.step - each.to} for each in rollbacks]
        files.write_json(os.path.join(self.path, ROLLBACKS_FILE), records)

    def write_best(self, weights: bytes, entry: Entry) -> None:
        """Writes weights as the run's best, then best.json that names them, then removes the earlier ones.

        Args:
          weights: content of the .npz, as `fer.models.weights.to_bytes` returns it.
          entry: of the epoch, in the history; of a model soup, only step and validation_accuracy.
        """
        name = f"best-{entry['step']:08d}.npz"
        path = os.path.join(self.checkpoints, name)
        files.write_bytes(path, weights)
        best = {
            "step": entry["step"],
            **({"epoch": entry["epoch"]} if "epoch" in entry else {}),
            "accuracy": entry["validation_accuracy"],
            "file": f"{CHECKPOINTS}/{name}",
            "sha256": files.sha256(path),
            "selected_on": "validation",
        }
        files.write_json(self.best_file, best)
        for other in files.listdir(self.checkpoints):  # no glob: the path may hold characters of a pattern
            if re.fullmatch(r"best-.*\.npz", other) and other != name:
                files.remove(os.path.join(self.checkpoints, other))

    def write_best_of_bundle(self, step: int, selected_on: str, rounded_from_sha256: str) -> None:
        """Writes best.json of a bundle, whose weights and graph are written already.

        Args:
          step: training step of the weights.
          selected_on: split that selected them.
          rounded_from_sha256: of the run's weights in float32.
        """
        best = {
            "step": step,
            "file": WEIGHTS_FILE,
            "sha256": files.sha256(os.path.join(self.path, WEIGHTS_FILE)),
            "graph": GRAPH_FILE,
            "graph_sha256": files.sha256(os.path.join(self.path, GRAPH_FILE)),
            "selected_on": selected_on,
            "rounded_to": "float16",
            "rounded_from_sha256": rounded_from_sha256,
        }
        files.write_json(self.best_file, best)

    def read_best(self) -> BestWeights:
        """Reads best.json. `BestWeights.check_files` checks the files that it names.

        Raises:
          UserError: the run has no trained model yet, or best.json is damaged or names a file outside of the run.
        """
        self.check_trained()
        path = self.best_file
        best = files.read_json(path, "the record of the best weights")

        def locate(field: str) -> str:
            return files.join_inside(self.path, _get_field(best, field, str, path), path)

        has_graph, is_rounded, has_accuracy = (
            isinstance(best, dict) and name in best for name in ("graph", "rounded_to", "accuracy")
        )
        return BestWeights(
            step=_get_field(best, "step", int, path),
            selected_on=_get_field(best, "selected_on", str, path),
            path=locate("file"),
            sha256=_get_field(best, "sha256", str, path),
            accuracy=_get_number(best, "accuracy", path) if has_accuracy else 0.0,
            graph=locate("graph") if has_graph else None,
            graph_sha256=_get_field(best, "graph_sha256", str, path) if has_graph else None,
            rounded_to=_get_field(best, "rounded_to", str, path) if is_rounded else None,
        )


def checkpoint_name(step: int) -> str:
    """Returns the name of a checkpoint's folder."""
    return f"step-{step:08d}"


def parse_checkpoint_name(name: str) -> int | None:
    """Returns the step in the name of a checkpoint's folder; None for the name of another file."""
    found = re.fullmatch(r"step-(\d{8,10})", name)
    return int(found[1]) if found else None


def write_checkpoint_record(folder: str, record: CheckpointRecord) -> None:
    """Writes checkpoint.json into the folder of a checkpoint."""
    files.write_json(os.path.join(folder, CHECKPOINT_FILE), record._asdict())


def read_checkpoint_record(folder: str) -> CheckpointRecord:
    """Reads checkpoint.json in the folder of a checkpoint.

    Raises:
      StorageError: it cannot be read now.
      UserError: it is missing or damaged.
    """
    path = os.path.join(folder, CHECKPOINT_FILE)
    content = files.read_json(path, "the checkpoint")
    step, hashes = _get_field(content, "step", int, path), _get_field(content, "files", dict, path)
    rollbacks = [Rollback(*each) for each in content.get("rollbacks", [])]
    return CheckpointRecord(step, content.get("seconds", 0.0), rollbacks, hashes)


def find_classes(weights: str) -> tuple[str, ...] | None:
    """Returns the classes of the run that a weights file belongs to; None if no config.json is near it.

    Args:
      weights: path of a file in a run's folder or in its checkpoints.

    Raises:
      UserError: the config.json is damaged.
    """
    folder = os.path.dirname(weights)
    for run in (RunDir(folder), RunDir(os.path.dirname(folder))):
        if files.exists(run.config_file):
            return run.read_config().classes
    return None


def is_state(name: str) -> bool:
    """Returns whether a run resumes from a file, given by its path relative to the run directory."""
    return name in _STATE_FILES or name.startswith(f"{CHECKPOINTS}/")


def upload_rank(name: str) -> int:
    """Returns the position of a file of a run among those that are uploaded together.

    config.json comes first, because the other files belong to it, and a file that names others comes after them. The
    record of a checkpoint comes last: a run that resumes there needs the epochs and the best weights up to its step,
    and leaves out later ones.
    """
    if name == CONFIG_FILE:
        return 0
    return 3 if name.endswith(CHECKPOINT_FILE) else 2 if name in (HISTORY_FILE, BEST_FILE) else 1


def is_started(path: str) -> bool:
    """Returns, without TensorFlow, whether a run has started in `path`; True for a path in a store."""
    return is_remote(path) or os.path.exists(RunDir(path).config_file)


def check_run_dir(run: RunDir, recorded: RunConfig | None, experiment: Experiment, data: TrainingData) -> None:
    """Checks that a run can start in a directory, or that it is the run there.

    The recorded config may have another length; `fer.train.preflight` checks whether the run can go on to the new one.

    Args:
      run: the directory.
      recorded: its config.json; None if there is none.
      experiment: the configuration.
      data: the shards.

    Raises:
      UserError: the directory holds a run of another config or on other data (the message shows the difference),
        or other files.
    """
    if recorded:
        _check_same_run(run, recorded, experiment, data)
    elif files.isdir(run.path) and [name for name in files.listdir(run.path) if not _is_leftover(name)]:
        raise UserError(f"{run.path} exists and holds no run (no {CONFIG_FILE}); choose an empty or a new --workdir.")


def software_versions() -> dict[str, str]:
    """Returns the versions of the software that a run computes with, by name."""
    import numpy
    import tensorflow as tf

    return {
        "fer": fer.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": metadata.version(fer.KERAS),
        "numpy": numpy.__version__,
    }


def git_commit() -> str | None:
    """Returns the commit of the code, with "+changes" if files differ from it; None outside a checkout."""
    root = os.path.dirname(os.path.dirname(os.path.realpath(fer.__file__)))

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if os.path.realpath(git("rev-parse", "--show-toplevel")) != root:  # an environment inside another project
            return None
        return git("describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _is_leftover(name: str) -> bool:
    """Returns whether a file is one that a killed process leaves before a run has started."""
    return ".tmp-" in name or name == OWNER_FILE


def _check_same_run(run: RunDir, recorded: RunConfig, experiment: Experiment, data: TrainingData) -> None:
    if recorded.averaged:
        raise UserError(
            f"{run.config_file} belongs to a model soup, which training does not continue. Choose another --workdir; "
            f"--init_from={shlex.quote(run.path)} starts from its weights."
        )
    changed = config.diff(recorded.experiment, experiment)
    if any(difference.partition(":")[0] not in LENGTH_FIELDS for difference in changed):
        raise UserError(
            f"{run.config_file} belongs to another config ({'; '.join(changed)}). Choose another --workdir, or give "
            "the flags of the run that is there."
        )
    sha256 = recorded.trained_on["manifest_sha256"]
    if sha256 != data.sha256:
        raise UserError(
            f"{run.config_file} belongs to other data: its manifest had the hash {sha256[:12]}..., {data.folder} has "
            f"{data.sha256[:12]}.... Choose another --workdir, or the --data of the run that is there."
        )


def _parse_classes(content: dict[str, Any], path: str) -> tuple[str, ...]:
    """Returns the classes that config.json records; earlier versions, which knew only FER-2013's, recorded none."""
    try:
        return check_classes(_get_field({"classes": list(CLASSES), **content}, "classes", list, path))
    except ValueError as error:
        raise UserError(f"{path} is damaged: its classes are wrong. {error}") from error


def check_initial_run_record(record: Any, path: str) -> dict[str, Any]:
    """Returns the record of an initial run (--init_from) in the file `path`, after a check of its fields.

    Its fields are run, weights_sha256, config_sha256 and step; and trained_on and learned_from, which records of
    earlier versions lack. learned_from holds weights, label_source, teacher_runs and, if that run too started from
    another one, that one's record in init_from; of a model soup, the records of its runs in averaged. The record of a
    run that started from none is empty.

    Raises:
      UserError: a field is missing or has another type.
    """
    if record == {}:
        return {}
    for name, kind in {"run": str, "weights_sha256": str, "config_sha256": str, "step": int}.items():
        _get_field(record, name, kind, path)
    if "learned_from" in record:
        sources = _get_field(record, "learned_from", dict, path)
        trained_on = _get_field(record, "trained_on", dict, path)
        for values, names in (
            (sources, ("weights", "label_source", "teacher_runs")),
            (trained_on, ("name", "manifest_sha256")),
        ):
            for name in names:
                _get_field(values, name, str, path)
        check_initial_run_record(sources.get("init_from", {}), path)
        check_averaged_records(sources.get("averaged", []), path)
    return record


def check_averaged_records(records: Any, path: str) -> tuple[dict[str, Any], ...]:
    """Returns the records of the runs whose weights were averaged, after a check as for an initial run.

    Raises:
      UserError: they are no list, or a field of one is missing or has another type.
    """
    if not isinstance(records, list):
        raise UserError(f"{path} has no valid field averaged: it is damaged. Choose another run.")
    return tuple(check_initial_run_record(each, path) for each in records)


def initial_runs(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns a record of `check_initial_run_record`, that of the run which this run started from, and so on.

    Follows --init_from alone; `ancestors` also follows model soups.
    """
    return [record, *initial_runs(record.get("learned_from", {}).get("init_from", {}))] if record else []


def ancestors(sources: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the records of all runs that weights descend from: initial runs, averaged runs, and their ancestors.

    Args:
      sources: the field learned_from of a record of a run.
    """
    runs = [*([sources["init_from"]] if sources.get("init_from") else []), *sources.get("averaged", [])]
    return [found for run in runs for found in (run, *ancestors(run.get("learned_from", {})))]


def _parse_teachers(records: Any, path: str) -> tuple[Teacher, ...]:
    """Returns the teachers that the config.json at `path` records."""
    valid = isinstance(records, list) and all(
        isinstance(each, dict) and isinstance(each.get("weights_sha256"), str) for each in records
    )
    if not valid:
        raise UserError(f"{path} has no valid field teachers: it is damaged. Choose another run or --workdir.")
    return tuple(Teacher(**{name: each[name] for name in Teacher._fields if name in each}) for each in records)


def _format_table(history: Sequence[Entry]) -> str:
    """Returns the entries of a history as CSV; a value that an entry lacks, or that is None, is an empty cell."""
    fields = dict.fromkeys(field for entry in history for field in entry)
    table = io.StringIO()
    writer = csv.DictWriter(table, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return table.getvalue()


def _check_history(history: Any, path: str) -> None:
    if not isinstance(history, list) or not history or not all(isinstance(entry, dict) for entry in history):
        raise UserError(f"{path} is not a list of epochs: it is damaged.")
    for number, entry in enumerate(history, 1):
        for field in EPOCH_FIELDS:
            value = entry.get(field)
            known = isinstance(value, int if field in EPOCH_COUNTS else (int, float)) and not isinstance(value, bool)
            if not known or not 0 <= value < (2**31 if field in EPOCH_COUNTS else 1e300):
                raise UserError(f"{path}, entry {number}: {field} is {value!r}, which no epoch has: it is damaged.")


def _check_sha256(what: str, path: str, expected: str) -> None:
    if not files.exists(path):
        raise UserError(f"There is no {what} {path}, which {BEST_FILE} names; copy it back or train anew.")
    if files.sha256(path) != expected:
        raise UserError(
            f"{path} is not the file that {BEST_FILE} names: its SHA-256 differs. Copy it again or train anew."
        )


def _get_field(values: Any, name: str, kind: type, path: str) -> Any:
    """Returns a field of the JSON object in the file `path`, after a check of its type."""
    value = values.get(name) if isinstance(values, dict) else None
    if not isinstance(value, kind):
        raise UserError(f"{path} has no {name} of type {kind.__name__}: it is damaged or of another version of fer.")
    return value


def _get_number(values: Any, name: str, path: str) -> float:
    """Returns a field of the JSON object in the file `path`, which JSON may write without a decimal point."""
    value = values.get(name) if isinstance(values, dict) else None
    return float(value) if type(value) is int else float(_get_field(values, name, float, path))
