"""Paths with characters of glob patterns, which TensorFlow would expand, in every use."""

import os
import pathlib
import re
import shutil
import signal
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.errors import Stopped, StorageError
from fer.evaluation import evaluate
from fer.evaluation.eval_options import EvalRequest
from fer.export import converters, export
from fer.labels import CLASSES
from fer.models import classifier, loading, runtimes, weights
from fer.run_dir import CheckpointRecord, RunDir
from fer.tf_workarounds import PATTERN, literal_path
from fer.train import checkpoints, preemption, trainer
from tests.evaluation.factories import images
from tests.train import factories

FACES = images(2)
NAMES = ["lr=[0.1]", "back\\slash*?", "]closed", "{a,b} c"]


@pytest.fixture(params=NAMES)
def folder(request, tmp_path) -> pathlib.Path:
    """Creates a folder whose name has characters of a pattern."""
    path = tmp_path / request.param
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def network() -> tf.keras.Model:
    return classifier.build(Model(name="tiny", image_size=24), "float32")


def list_aliases() -> list[str]:
    return [name for name in os.listdir(tempfile.gettempdir()) if re.match(rf"fer-alias-\w+-{os.getpid()}-", name)]


def test_literal_path_yields_path_without_pattern(folder):
    (folder / "file").write_text("content")
    with literal_path(str(folder)) as alias:
        assert not PATTERN.search(alias)
        assert pathlib.Path(alias, "file").read_text() == "content"
    assert (folder / "file").exists()
    assert list_aliases() == []


def test_literal_path_yields_relative_path_without_pattern(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "file").write_text("content")
    with literal_path(folder.name) as alias:
        assert pathlib.Path(alias, "file").read_text() == "content"


@pytest.mark.parametrize("path", ["runs/a", "/runs/a b"])
def test_literal_path_yields_other_paths_unchanged(path):
    with literal_path(path) as alias:
        assert alias == path


def test_literal_path_uses_another_folder_when_temporary_one_is_pattern(folder, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with literal_path(str(folder)) as alias:
        assert not PATTERN.search(alias)


def test_literal_path_error_names_folder_when_no_temporary_folder_is_usable(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match=r"cannot read .* set TMPDIR"), literal_path("lr=[0.1]"):
        pass


def test_checkpoint_is_restored(folder):
    checkpoints.save(str(folder), tf.train.Checkpoint(weights=tf.Variable([3.0])), CheckpointRecord(10, 1.0))
    state = tf.train.Checkpoint(weights=tf.Variable([0.0]))
    assert checkpoints.restore(str(folder), state).step == 10
    assert float(state.weights[0]) == 3.0


def test_run_dir_removes_old_best_weights(folder):
    run_folder = RunDir(str(folder))
    for step in (10, 20):
        run_folder.write_best(
            weights.to_bytes([tf.Variable([1.0])]), {"step": step, "epoch": 1, "validation_accuracy": 0.5}
        )
    assert os.listdir(folder / "checkpoints") == ["best-00000020.npz"]


def test_saved_model_round_trips(tmp_path, network):
    folder = tmp_path / "lr=[0.1] \\*?"
    folder.mkdir()
    path = converters.write(network, CLASSES, "saved_model", "float32", str(folder), FACES)
    loaded = runtimes.load(path, "saved_model", 7)
    np.testing.assert_allclose(loaded.compute(FACES), network(FACES).numpy(), rtol=1e-4, atol=1e-5)


def test_tflite_round_trips_when_temporary_folder_is_pattern(tmp_path, network, monkeypatch):
    folder = tmp_path / "lr=[0.1]"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    path = converters.write(network, CLASSES, "tflite", "float32", str(folder), FACES)
    loaded = runtimes.load(path, "tflite", 7)
    np.testing.assert_allclose(loaded.compute(FACES), network(FACES).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.extended
def test_run_is_trained_resumed_evaluated_and_exported(synthetic_shards, tmp_path):
    """Data, run directory, results and exports are all in one such folder."""
    folder = tmp_path / "lr=[0.1] \\*?"
    data = str(shutil.copytree(synthetic_shards.folder, folder / "data"))
    settings = factories.experiment(max_steps=2, save_every_steps=10)
    settings.model.name, stop = "tiny", preemption.StopRequest()
    stop.exit_code = 128 + signal.SIGTERM
    with pytest.raises(Stopped):
        trainer.train(settings, data, str(folder / "run"), "one", options=trainer.RunOptions(stop=stop))
    trainer.train(settings, data, str(folder / "run"), "one")
    assert [entry["step"] for entry in RunDir(str(folder / "run")).read_history(required=True)] == [2]
    request = EvalRequest([str(folder / "run")], data)
    evaluate.write(evaluate.evaluate(request), str(folder / "results"))
    exported = export.export(export.ExportRequest(str(folder / "run"), "saved_model", str(folder / "exports"), data))
    assert os.listdir(folder / "exports" / "saved_model" / "variables")
    assert loading.open_run(str(folder / "exports")).step == exported.content["run"]["checkpoint_step"] == 2
