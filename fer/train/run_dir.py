"""Run directory: configuration, data and software of a run, its history and its weights.

Its files:
    config.json     the experiment, the hash of the data, versions, commit: written first, never changed
    history.json    one entry per epoch
    curves.png      plot of the history
    rollbacks.json  the rollbacks, if there were any (train.on_nan)
    best.json       the best weights, selected on the validation split
    checkpoints/    best-*.npz (weights to evaluate) and step-*/ (states to resume from)
    events/         TensorBoard
    owner.json      the process that trains in it now (fer.train.run_lock)
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import tensorflow as tf

import fer
from fer import config
from fer.config import Experiment
from fer.data.manifest import Manifest
from fer.errors import UserError
from fer.io import files
from fer.models import loading, weights
from fer.train import run_lock
from fer.viz import plots

CONFIG_FILE = "config.json"


@dataclasses.dataclass(frozen=True)
class RunDir:
    """The files of one run."""

    path: str

    @property
    def checkpoints(self) -> str:
        """Folder of the checkpoints."""
        return os.path.join(self.path, "checkpoints")

    @property
    def events(self) -> str:
        """Folder of the TensorBoard events."""
        return os.path.join(self.path, "events")

    def write_config(self, experiment: Experiment, manifest: Manifest, teachers: Sequence[dict[str, Any]] = ()) -> None:
        """Writes config.json, unless the run resumes.

        Args:
          experiment: the configuration.
          manifest: of the data.
          teachers: records of the teachers, in order; see `fer.train.distillation.teacher_records`.

        Raises:
          UserError: the run resumes, but started with other weights of the teachers.
        """
        path = os.path.join(self.path, CONFIG_FILE)
        if files.exists(path):
            recorded = files.read_json(path, "the run's config").get("teachers", [])
            try:
                taught_by = [each["weights_sha256"] for each in recorded]
            except (KeyError, TypeError) as error:
                raise UserError(f"{path} has no valid field teachers: choose another --workdir.") from error
            if taught_by != [each["weights_sha256"] for each in teachers]:
                raise UserError(
                    f"The run in {self.path} started with other weights in the folders of config.train.teacher_runs "
                    f"({experiment.train.teacher_runs!r}): restore those weights, or choose another --workdir."
                )
            return
        examples = {name: split.examples for name, split in manifest.splits.items()}
        files.write_json(
            path,
            {
                "config": experiment.to_dict(),
                "config_sha256": experiment.sha256(),
                "data": {"name": manifest.name, "manifest_sha256": manifest.sha256, "examples_per_split": examples},
                "versions": software_versions(),
                "git_commit": git_commit(),
                **({"teachers": list(teachers)} if teachers else {}),
            },
        )

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Replaces history.json and curves.png."""
        files.write_json(os.path.join(self.path, "history.json"), history)
        files.write_bytes(os.path.join(self.path, "curves.png"), plots.curves(history))

    def read_history(self, until_step: int) -> list[dict[str, Any]]:
        """Reads the entries up to `until_step`: a killed run may have written one more than it checkpointed."""
        if not files.exists(os.path.join(self.path, "history.json")):
            return []
        return [entry for entry in loading.read_history(self.path) if entry["step"] <= until_step]

    def write_rollbacks(self, rollbacks: list[dict[str, Any]]) -> None:
        """Replaces rollbacks.json."""
        files.write_json(os.path.join(self.path, "rollbacks.json"), rollbacks)

    def write_best(self, variables: Sequence[tf.Variable], entry: dict[str, Any]) -> None:
        """Writes a model's weights as the run's best, then best.json that names them, then removes the earlier ones."""
        name = f"checkpoints/best-{entry['step']:08d}.npz"
        path = os.path.join(self.path, name)
        weights.save(variables, path)
        best = {
            "step": entry["step"],
            "epoch": entry["epoch"],
            "accuracy": entry["validation_accuracy"],
            "file": name,
            "sha256": files.sha256(path),
            "selected_on": "validation",
        }
        files.write_json(os.path.join(self.path, "best.json"), best)
        for other in tf.io.gfile.listdir(self.checkpoints):  # no glob: the path may hold characters of a pattern
            if re.fullmatch(r"best-.*\.npz", other) and other != os.path.basename(path):
                tf.io.gfile.remove(os.path.join(self.checkpoints, other))


def open_run_dir(path: str, experiment: Experiment, manifest: Manifest) -> RunDir:
    """Returns the directory of a run that starts in `path`, or resumes there if it is the same run. Writes nothing.

    Raises:
      UserError: the directory holds a run of another config or on other data (the message shows the difference),
        or other files.
    """
    record = os.path.join(path, CONFIG_FILE)
    if files.exists(record):
        _check_same_run(record, files.read_json(record, "the run's config"), experiment, manifest)
    elif tf.io.gfile.isdir(path) and [name for name in tf.io.gfile.listdir(path) if not _is_leftover(name)]:
        raise UserError(f"{path} exists and holds no run (no {CONFIG_FILE}); choose an empty or a new --workdir.")
    return RunDir(path)


def _is_leftover(name: str) -> bool:
    """Returns whether a file is one that a killed process leaves before a run has started."""
    return ".tmp-" in name or name == run_lock.OWNER_FILE


def software_versions() -> dict[str, str]:
    """Returns the versions of the software that a run computes with, by name."""
    return {
        "fer": fer.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": metadata.version(fer.KERAS),
        "numpy": np.__version__,
    }


def git_commit() -> str | None:
    """Returns the commit of the code, with "+changes" if files differ from it; None outside a checkout."""
    here = os.path.dirname(os.path.abspath(fer.__file__))
    try:
        commit = subprocess.run(
            ["git", "-C", here, "describe", "--always", "--abbrev=40", "--dirty=+changes"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip()


def _check_same_run(record: str, found: dict[str, Any], experiment: Experiment, manifest: Manifest) -> None:
    try:
        before, data = config.from_dict(found["config"]), found["data"]["manifest_sha256"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{record} is not the record of a run; choose another --workdir.") from error
    if not isinstance(data, str):
        raise UserError(f"{record} has no valid hash of the data; choose another --workdir.")
    changed = config.diff(before, experiment)
    if changed:
        raise UserError(
            f"{record} belongs to another config ({'; '.join(changed)}). Choose another --workdir, or give the "
            "flags of the run that is there."
        )
    if data != manifest.sha256:
        raise UserError(
            f"{record} belongs to other data: its manifest had the hash {data[:12]}..., {manifest.folder} has "
            f"{manifest.sha256[:12]}.... Choose another --workdir, or the --data of the run that is there."
        )
