"""Logging of runs to MLflow (extra `mlflow`): configuration, metrics of each epoch, evaluations and their files.

The run directory records the id of its MLflow run, so that a resumed run and its evaluations continue that one. After
the first error of MLflow a warning is printed, and the rest of the command does without it. The next command that logs
the run adds the epochs that are missing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fer import config, escaping
from fer.errors import Stopped, UserError, install_command
from fer.io import files
from fer.run_dir import Entry, RunDir
from fer.storage import is_remote

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "fer"  # unless the environment variable MLFLOW_EXPERIMENT_NAME names another
EVAL_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "cohen_kappa", "matthews", "log_loss", "brier", "ece")
MAX_METRICS = 1000  # of a request
# A server that does not answer delays a command by at most a minute; MLflow's own defaults wait for many.
TIMEOUTS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "15", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


def check_installed(uri: str | None) -> None:
    """Checks that MLflow is installed if a tracking URI is given.

    Raises:
      UserError: it is not.
    """
    if uri and importlib.util.find_spec("mlflow") is None:
        raise UserError(f"--mlflow needs MLflow, which is not installed: {install_command('mlflow')}.")


def check_run(uri: str | None, workdirs: Sequence[str]) -> None:
    """Checks that an evaluation can be logged if a tracking URI is given.

    Raises:
      UserError: MLflow is not installed, or the evaluation is not of one run.
    """
    check_installed(uri)
    if uri and (len(workdirs) > 1 or not files.exists(RunDir(workdirs[0]).history_file)):
        raise UserError(f"--mlflow logs evaluations of one run, and {','.join(workdirs)} is none: leave --mlflow out.")


@contextlib.contextmanager
def log_training(uri: str | None, workdir: str) -> Iterator[Callable[[Entry], None]]:
    """Yields the function to call after each epoch with its entry; at the end, records how the training ended.

    The epochs of a run in a store are logged at the end: until then, the store may lack the newest files.

    Args:
      uri: of the tracking server or store; None for no logging.
      workdir: the run directory.
    """
    if uri is None:
        yield lambda entry: None
        return
    run = MlflowRun(uri, RunDir(workdir))
    try:
        yield (lambda entry: None) if is_remote(workdir) else (lambda entry: run.log_epochs(entry["step"]))
    except BaseException as error:
        run.end("KILLED" if isinstance(error, (Stopped, KeyboardInterrupt)) else "FAILED")
        raise
    run.log_epochs()
    run.end("FINISHED")


class MlflowRun:
    """The MLflow run of a run directory. No method raises an error of MLflow.

    Args:
      uri: of the tracking server or store.
      folder: the run directory.
    """

    def __init__(self, uri: str, folder: RunDir):
        self._uri, self._folder = uri, folder
        self._client: MlflowClient | None = None  # None after an error
        self._run_id = ""
        self._is_new = False  # whether this command created the run
        self._last_step = 0  # of the epochs in MLflow
        try:
            self._client = _connect(uri)
        except Exception as error:  # MLflow and its stores raise errors of many types
            self._warn(error)

    def log_epochs(self, newest_step: int | None = None) -> None:
        """Logs the epochs of the history that MLflow lacks.

        Args:
          newest_step: of an epoch that is logged anyway. After a rollback MLflow has an epoch of the same step.
        """
        self._attempt(lambda client: self._log_epochs(client, newest_step))

    def log_evaluation(self, name: str, content: dict[str, Any]) -> None:
        """Logs an evaluation, and the epochs that MLflow lacks.

        Args:
          name: prefix of its metrics, and name of its file.
          content: of its eval.json.
        """
        self._attempt(lambda client: self._log_evaluation(client, name, content))
        if self._is_new:
            self.end("FINISHED")

    def end(self, status: str) -> None:
        """Records the status of the run if anything was logged: FINISHED, KILLED or FAILED."""
        if self._run_id:
            self._attempt(lambda client: client.set_terminated(self._run_id, status))

    def _attempt(self, action: Callable[[MlflowClient], None]) -> None:
        """Calls `action`, unless MLflow failed before."""
        if self._client is None:
            return
        try:
            action(self._client)
        except Exception as error:  # as in __init__
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        self._client = None
        reason = escaping.redact(escaping.escape_line(files.error_message(error)))
        print(
            f"Warning: MLflow at {escaping.redact(self._uri)} failed ({reason}). This command goes on without it; "
            "the next one with --mlflow logs the missing epochs.",
            file=sys.stderr,
        )

    def _open(self, client: MlflowClient) -> str:
        """Returns the id of the MLflow run, which is created if the run directory has none yet."""
        if self._run_id:
            return self._run_id
        recorded = self._folder.read_mlflow_run_id()
        self._run_id = recorded or _create_run(client, self._folder)
        self._is_new = not recorded
        if not recorded:
            self._folder.write_mlflow_run_id(self._run_id)
        self._log_config(client)
        logged = client.get_metric_history(self._run_id, "validation_loss")
        self._last_step = max((metric.step for metric in logged), default=0)
        return self._run_id

    def _log_config(self, client: MlflowClient) -> None:
        """Logs the fields of the configuration that MLflow lacks, and config.json."""
        from mlflow.entities import Param

        fields = config.flatten(self._folder.read_config().recorded)
        known = client.get_run(self._run_id).data.params  # cannot be changed: the length of a run may have been
        client.log_batch(
            self._run_id, params=[Param(path, str(value)) for path, value in fields.items() if path not in known]
        )
        path = self._folder.config_file
        text = files.read_bytes(path, f"There is no {path}.").decode()
        client.log_text(self._run_id, text, os.path.basename(path))

    def _log_epochs(self, client: MlflowClient, newest_step: int | None) -> None:
        from mlflow.entities import Metric

        run_id = self._open(client)
        if newest_step is not None:
            client.update_run(run_id, status="RUNNING")
        now = int(1000 * time.time())
        history = self._folder.read_history()
        metrics = [
            Metric(name, float(value), now, entry["step"])
            for entry in history
            if entry["step"] > self._last_step or entry["step"] == newest_step
            for name, value in entry.items()
            if name != "step" and isinstance(value, (int, float))
        ]
        for start in range(0, len(metrics), MAX_METRICS):
            client.log_batch(run_id, metrics=metrics[start : start + MAX_METRICS])
        self._last_step = max((entry["step"] for entry in history), default=0)

    def _log_evaluation(self, client: MlflowClient, name: str, content: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        self._log_epochs(client, None)
        values = {metric: content[metric] for metric in EVAL_METRICS if content[metric] is not None}
        values |= {f"recall/{label}": figures["recall"] for label, figures in content["per_class"].items()}
        now, step = int(1000 * time.time()), content["checkpoint_step"]
        metrics = [
            Metric(re.sub(r"[^/\w.\- :]", "_", f"{name}/{metric}"), value, now, step)
            for metric, value in values.items()
        ]
        client.log_batch(self._run_id, metrics=metrics)
        client.log_dict(self._run_id, content, f"{name}/{os.path.basename(self._folder.eval_file)}")


def _connect(uri: str) -> MlflowClient:
    """Returns a client of a tracking server that answers.

    Raises:
      Exception: there is no such server or store.
    """
    for name, value in TIMEOUTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # they report the creation of each table of a new database
        logging.getLogger(name).setLevel(logging.ERROR)
    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _create_run(client: MlflowClient, folder: RunDir) -> str:
    """Creates the MLflow run of a run directory and returns its id."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    tags = {"config_sha256": folder.read_config().sha256}
    return client.create_run(
        experiment_id, run_name=os.path.basename(os.path.abspath(folder.path)), tags=tags
    ).info.run_id
