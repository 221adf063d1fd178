"""Small experiments for the tests of sweeps, and a substitute of training."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from fer import run_dir
from fer.config import Experiment
from fer.data import manifest, pipeline
from fer.evaluation import eval_dataset, eval_json, evaluate, prediction_files
from fer.evaluation.metrics import metrics
from fer.io import files
from fer.labels import CLASSES
from fer.train import trainer
from fer.viz import rendering
from tests.train import factories

# Modes of `patch_training`.
MODES = ["fake", pytest.param("trained", marks=pytest.mark.extended)]


def experiment(**train) -> Experiment:
    """Returns an experiment with the network `tiny`; arguments are fields of `fer.config.Train`."""
    settings = factories.experiment(**train)
    settings.model.name = "tiny"
    return settings


def patch_training(patch: pytest.MonkeyPatch, mode: str) -> None:
    """Replaces training by `train` if `mode`, one of `MODES`, is "fake"."""
    if mode == "fake":
        patch.setattr(trainer, "train", train)


def disable_plots(patch: pytest.MonkeyPatch) -> None:
    """Disables plots, which take most of the time of a small run and its evaluation."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    patch.setattr(rendering, "render_png", lambda figure, **_: file.getvalue())
    patch.setattr(evaluate, "_draw_plots", lambda evaluation: {})


def train(
    settings: Experiment,
    data: str,
    folder: str,
    strategy: str,
    options: trainer.RunOptions,
) -> None:
    """Writes the files of a run and of its evaluation, with predictions that depend only on the experiment.

    Replaces `fer.train.trainer.train`. The evaluation is of the weights that best.json names, so that a sweep uses it.

    Raises:
      UserError: the batch is too large for the data, or the folder cannot be written, as in training.
    """
    shards = manifest.read_manifest(data)
    steps = pipeline.steps_per_epoch(shards.split("train").examples, settings.train.global_batch_size)
    run = run_dir.RunDir(folder)
    run_dir.check_run_dir(run, run.find_config(), settings, shards)
    run.write_config(settings, shards)
    digest = settings.sha256()
    accuracy = _evaluate(settings, shards, folder, digest)
    epochs = -(-settings.train.max_steps // steps) or settings.train.epochs
    history = [
        {
            "epoch": epoch,
            "step": epoch * steps,
            "learning_rate": 0.1,
            **dict.fromkeys(("train_loss", "train_accuracy", "validation_loss", "validation_macro_f1"), 0.5),
            "validation_accuracy": accuracy,
            "seconds": 60.0 * epoch,
        }
        for epoch in range(1, epochs + 1)
    ]
    files.write_json(os.path.join(folder, "history.json"), history)
    files.write_json(
        os.path.join(folder, "best.json"),
        {"step": history[-1]["step"], "file": "best.npz", "sha256": digest, "selected_on": "validation"},
    )
    for entry in history:
        options.on_epoch(entry)


def _evaluate(settings: Experiment, shards: manifest.Manifest, folder: str, weights_sha256: str) -> float:
    """Writes eval.json and predictions.npz with about 60 % correct predictions. Returns the accuracy."""
    scored = eval_dataset.read(shards, "validation", "fer")
    wrong = np.random.default_rng(int(weights_sha256, 16)).random(len(scored.labels)) < 0.4
    probabilities = np.full((len(wrong), 7), 0.05) + 0.65 * np.eye(7)[(scored.labels + wrong) % 7]
    member = {
        "workdir": folder,
        "model": settings.model.name,
        "parameters": 1,
        "precision": "float32",
        "selected_on": "validation",
        "config_sha256": settings.sha256(),
        "checkpoint_step": 1,
        "weights_sha256": weights_sha256,
        "trained_on": {"name": shards.name, "manifest_sha256": shards.sha256},
        "learned_from": {"weights": "none", "label_source": "fer", "teacher_runs": ""},
    }
    figures = {
        **metrics.compute_metrics(scored.labels, probabilities, CLASSES),
        "calibration": None,
        "excluding_train_duplicates": None,
        "accuracy_by_agreement": None,
    }
    content = eval_json.build([member], shards, eval_json.Protocol("validation", "none", "fer", 0), figures, 1.0)
    saved = prediction_files.Predictions(scored.labels, probabilities.astype(np.float32), scored.rows)
    prediction_files.write_npz(os.path.join(folder, "predictions.npz"), saved)
    eval_json.write_eval(os.path.join(folder, "eval.json"), content)
    return content["accuracy"]
