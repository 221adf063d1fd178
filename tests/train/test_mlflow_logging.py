"""Checks the logging of runs to MLflow, with a local file store."""

from __future__ import annotations

import json
import pathlib
import signal

import pytest

import tests.evaluation.factories
from fer import config
from fer.errors import Stopped, UserError
from fer.run_dir import RunDir
from fer.train import mlflow_logging
from tests.scripts import run_script
from tests.train import factories, launch


def entry(step: int, loss: float = 1.5) -> dict:
    return {
        "epoch": step // 10,
        "step": step,
        "learning_rate": 0.1,
        "train_loss": loss,
        "train_accuracy": 0.5,
        "validation_loss": loss,
        "validation_accuracy": 0.625,
        "validation_macro_f1": 0.5,
        "validation_cohen_kappa": None,
        "seconds": 9.0,
    }


@pytest.fixture
def folder(tmp_path) -> RunDir:
    """Returns a run directory whose history is empty."""
    run = RunDir(tests.evaluation.factories.run(tmp_path / "my run"))
    pathlib.Path(run.history_file).unlink()
    return run


def train(uri: str | None, folder: RunDir, *steps: int) -> None:
    """Logs epochs up to the steps, which are added to the history, as training does."""
    with mlflow_logging.log_training(uri, folder.path) as on_epoch:
        for step in steps:
            history = [each for each in folder.read_history() if each["step"] < step]
            folder.write_history([*history, entry(step, loss=step / 10)], b"")
            on_epoch(entry(step))


def test_log_training_of_run_in_store_logs_epochs_at_the_end(monkeypatch):
    """During the training, the store may lack the files that an epoch has written."""
    calls = []

    class Recorder:
        def __init__(self, uri, folder):
            self.log_epochs = lambda *steps: calls.append(steps)
            self.end = calls.append

    monkeypatch.setattr(mlflow_logging, "MlflowRun", Recorder)
    for workdir, during in (("s3://bucket/run", []), ("runs/run", [(10,)])):
        calls.clear()
        with mlflow_logging.log_training("file:///mlruns", workdir) as on_epoch:
            on_epoch(entry(10))
            assert calls == during
        assert calls == [*during, (), "FINISHED"]


@pytest.fixture
def uri(tmp_path, monkeypatch) -> str:
    pytest.importorskip("mlflow", reason="MLflow is not installed: the extra mlflow brings it")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes 14 s to create
    return f"file://{tmp_path}/mlruns"


@pytest.fixture
def client(uri):
    import mlflow

    return mlflow.MlflowClient(tracking_uri=uri)


def read_runs(client) -> list:
    experiment = client.get_experiment_by_name("fer")
    return client.search_runs([experiment.experiment_id])


def logged_steps(client, run_id: str, metric: str) -> list[int]:
    return [each.step for each in client.get_metric_history(run_id, metric)]


def test_log_training_logs_config_epochs_and_status(client, uri, folder):
    train(uri, folder, 10, 20)
    (run,) = read_runs(client)
    assert run.info.run_id == folder.read_mlflow_run_id()
    assert (run.info.run_name, run.info.status) == ("my run", "FINISHED")
    recorded = folder.read_config()
    assert run.data.params == {name: str(value) for name, value in config.flatten(recorded.recorded).items()}
    assert run.data.tags["config_sha256"] == recorded.sha256
    assert logged_steps(client, run.info.run_id, "validation_accuracy") == [10, 20]
    assert (run.data.metrics["validation_loss"], run.data.metrics["epoch"]) == (2.0, 2.0)
    assert "validation_cohen_kappa" not in run.data.metrics
    logged = pathlib.Path(client.download_artifacts(run.info.run_id, "config.json")).read_text()
    assert logged == pathlib.Path(folder.config_file).read_text()


def test_resumed_run_continues_its_mlflow_run_and_adds_missing_epochs(client, uri, folder):
    train(uri, folder, 10)
    train(None, folder, 20)  # as if the server had been away
    train(uri, folder, 30)
    (run,) = read_runs(client)
    assert logged_steps(client, run.info.run_id, "validation_loss") == [10, 20, 30]


def test_epoch_is_logged_again_after_a_rollback(client, uri, folder):
    train(uri, folder, 10, 20, 10, 20)
    (run,) = read_runs(client)
    assert logged_steps(client, run.info.run_id, "validation_loss") == [10, 20, 10, 20]


@pytest.mark.parametrize(("error", "status"), [(Stopped("stopped", 143), "KILLED"), (ValueError(), "FAILED")])
def test_log_training_records_how_the_run_ended(client, uri, folder, error, status):
    def train_until_error() -> None:
        with mlflow_logging.log_training(uri, folder.path) as on_epoch:
            folder.write_history([entry(10)], b"")
            on_epoch(entry(10))
            assert [run.info.status for run in read_runs(client)] == ["RUNNING"]
            raise error

    with pytest.raises(type(error)):
        train_until_error()
    assert [run.info.status for run in read_runs(client)] == [status]


def test_evaluation_is_logged_to_the_run_with_its_epochs(client, uri, folder):
    folder.write_history([entry(10)], b"")
    figures = dict.fromkeys(mlflow_logging.EVAL_METRICS, 0.5)
    content = {**figures, "cohen_kappa": None, "checkpoint_step": 10, "per_class": {"very sad+": {"recall": 0.25}}}
    mlflow_logging.MlflowRun(uri, folder).log_evaluation("test-flip", content)
    (run,) = read_runs(client)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test-flip/accuracy"] == 0.5
    assert run.data.metrics["test-flip/recall/very sad_"] == 0.25
    assert "test-flip/cohen_kappa" not in run.data.metrics
    assert run.data.metrics["validation_loss"] == 1.5
    logged = pathlib.Path(client.download_artifacts(run.info.run_id, "test-flip/eval.json")).read_text()
    assert json.loads(logged) == content


def test_server_that_is_away_causes_one_warning(folder, capsys):
    pytest.importorskip("mlflow", reason="MLflow is not installed: the extra mlflow brings it")
    (port,) = launch.find_free_ports(1)
    train(f"http://me:secret@127.0.0.1:{port}", folder, 10, 20)
    errors = capsys.readouterr().err
    assert errors.count("Warning: MLflow at http://me:***@127.0.0.1") == 1
    assert "secret" not in errors
    assert [each["step"] for each in folder.read_history()] == [10, 20]


def test_error_of_mlflow_causes_one_warning(folder, monkeypatch, capsys):
    """Needs no MLflow: its client raises at the first epoch."""

    class Client:
        def __getattr__(self, name: str) -> None:
            raise ConnectionError("the server has gone")

    monkeypatch.setattr(mlflow_logging, "_connect", lambda uri: Client())
    train("http://localhost", folder, 10, 20)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: MLflow at http://localhost failed (")
    assert line.endswith("the next one with --mlflow logs the missing epochs.")


def test_check_run_error_names_missing_package_and_other_workdirs(folder, monkeypatch):
    mlflow_logging.check_run(None, ["a", "b"])
    monkeypatch.setattr(mlflow_logging.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"--mlflow needs MLflow, which is not installed: .*-m pip install .*\[mlflow\]"
    ):
        mlflow_logging.check_installed("sqlite:///mlflow.db")
    monkeypatch.setattr(mlflow_logging.importlib.util, "find_spec", lambda name: object())
    for workdirs in (["a", "b"], ["bundled"], [folder.path]):  # an ensemble, a bundle, a run without an epoch
        with pytest.raises(UserError, match=r"--mlflow logs evaluations of one run, and .* is none"):
            mlflow_logging.check_run("sqlite:///mlflow.db", workdirs)


@pytest.mark.extended
def test_train_and_evaluate_log_to_one_mlflow_run_when_stopped_and_resumed(client, uri, synthetic_shards, tmp_path):
    workdir = tmp_path / "run"
    settings = launch.write_config(tmp_path, factories.experiment(max_steps=120, save_every_steps=3))
    flags = [f"--config={settings}", f"--data={synthetic_shards.folder}", f"--workdir={workdir}", f"--mlflow={uri}"]
    first = run_script.start("train.py", tmp_path, *flags)
    launch.wait_for_step([first], workdir, 23, launch.LIMIT)
    first.send_signal(signal.SIGTERM)
    _, errors = first.communicate(launch.LIMIT)
    assert first.returncode == 143, errors
    assert [run.info.status for run in read_runs(client)] == ["KILLED"]
    assert run_script.run("train.py", tmp_path, *flags).returncode == 0
    evaluate = [f"--workdir={workdir}", f"--data={synthetic_shards.folder}", f"--mlflow={uri}"]
    assert run_script.run("evaluate.py", tmp_path, *evaluate).returncode == 0
    (run,) = read_runs(client)
    assert run.info.status == "FINISHED"
    steps = [each["step"] for each in json.loads((workdir / "history.json").read_text())]
    assert logged_steps(client, run.info.run_id, "train_loss") == steps
    evaluation = json.loads((workdir / "eval.json").read_text())
    assert run.data.metrics["validation/accuracy"] == evaluation["accuracy"]
    assert client.download_artifacts(run.info.run_id, "validation/eval.json")
