"""Checks distillation: the predictions of trained networks become part of the targets."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Experiment, Train
from fer.errors import UserError
from fer.io import files
from fer.models import loading
from fer.train import distillation, trainer
from tests.evaluation.factories import run as write_run
from tests.train import factories

IMAGES = tf.constant(np.random.default_rng(0).integers(0, 256, [5, 48, 48, 1], np.uint8))
TARGETS = tf.one_hot([0, 1, 2, 3, 6], 7)


@pytest.fixture(scope="module")
def runs(synthetic_shards, tmp_path_factory) -> list[str]:
    """Returns the run directories of two networks with different seeds."""
    folder = tmp_path_factory.mktemp("teachers")
    return [write_run(folder / f"seed{seed}", seed, factories.experiment()) for seed in (0, 1)]


@pytest.fixture(scope="module")
def student(runs, synthetic_shards, tmp_path_factory) -> tuple[Experiment, pathlib.Path]:
    """Returns settings and directory of a run of four steps with the first teacher and checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("student") / "run"
    settings = factories.experiment(teacher_runs=runs[0], save_every_steps=2, max_steps=4, ema_decay=0.0)
    trainer.train(settings, synthetic_shards.folder, str(folder), "one")
    return settings, folder


def test_make_distill_fn_mixes_labels_with_mean_teacher_probabilities(runs):
    teachers = distillation.load_teachers(Train(teacher_runs=", ".join(runs), precision="float32"))
    found = distillation.make_distill_fn(teachers, 0.25)(IMAGES, TARGETS).numpy()
    logits = [loading.open_folder(run).model(IMAGES).numpy().astype(np.float64) for run in runs]
    assert not np.allclose(*logits)
    teacher_mean = np.mean([np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in logits], axis=0)
    np.testing.assert_allclose(found, 0.75 * TARGETS.numpy() + 0.25 * teacher_mean, atol=1e-5)
    assert distillation.make_distill_fn([], 0.25) is None


def test_distillation_moves_student_to_its_teacher_when_teacher_share_is_one(runs, synthetic_shards, tmp_path):
    """The teacher has random weights, so its predictions differ from the labels."""
    options = {"teacher_runs": runs[0], "distill_weight": 1.0, "label_smoothing": 0.0, "ema_decay": 0.0}
    settings = factories.experiment(global_batch_size=8, max_steps=40, save_every_steps=100, **options)
    settings.optimizer.learning_rate = 0.05
    trainer.train(settings, synthetic_shards.folder, str(tmp_path / "student"), "one")
    teacher, unrelated, student = (loading.open_folder(run).model for run in (*runs, str(tmp_path / "student")))

    def divergence(one: tf.keras.Model, other: tf.keras.Model) -> float:
        return float(tf.reduce_mean(tf.keras.losses.kl_divergence(*(tf.nn.softmax(m(IMAGES)) for m in (one, other)))))

    assert divergence(teacher, student) < divergence(teacher, unrelated) / 2


def test_record_holds_hash_of_teacher_weights_and_train_rejects_others(runs, student, synthetic_shards, tmp_path):
    settings, folder = student
    best, record = (files.read_json(f"{place}.json", "it") for place in (f"{runs[0]}/best", f"{folder}/config"))
    assert [entry["weights_sha256"] for entry in record["teachers"]] == [best["sha256"]]
    assert [entry["began_with"] for entry in record["teachers"]] == ["none"]
    other = shutil.copytree(folder, tmp_path / "other")
    record["teachers"][0]["weights_sha256"] = files.read_json(f"{runs[1]}/best.json", "best")["sha256"]
    (other / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="started with other weights in the folders of"):
        trainer.train(settings, synthetic_shards.folder, str(other), "one")


def test_teacher_without_weights_raises_user_error_and_leaves_nothing(synthetic_shards, tmp_path):
    settings = factories.experiment(teacher_runs=str(tmp_path / "nobody"))
    with pytest.raises(UserError, match=r"^config\.train\.teacher_runs: .*nobody holds no best\.json: train first"):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path / "student"), "one")
    assert not (tmp_path / "student").exists()


def test_run_with_teacher_resumes_to_same_weights_after_kill(student, synthetic_shards, tmp_path, capsys):
    (settings, uninterrupted), resumed = student, str(tmp_path / "resumed")
    shutil.copytree(uninterrupted, resumed)
    shutil.rmtree(f"{resumed}/checkpoints/step-{4:08d}")
    trainer.train(settings, synthetic_shards.folder, resumed, "one")
    assert "Resuming after step 2 of 4" in capsys.readouterr().out
    assert files.read_json(f"{resumed}/best.json", "best") == files.read_json(f"{uninterrupted}/best.json", "best")
