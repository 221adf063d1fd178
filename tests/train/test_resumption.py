"""Checks guarantee 1 with options that have a state of their own: a resumed run ends with the same bits."""

import shutil

import numpy as np
import pytest

from fer import run_dir
from fer.config import Data, Experiment, FineTune
from fer.train import checkpoints, trainer
from tests.marks import needs_float16
from tests.train import factories
from tests.train.factories import final_state

BATCH, STEPS = 64, 7  # an epoch has 5 steps
EVERY = 3  # steps between two checkpoints


def make_experiment(**train) -> Experiment:
    return factories.experiment(
        global_batch_size=BATCH, max_steps=STEPS, save_every_steps=EVERY, ema_decay=0.0, **train
    )


def fine_tuning() -> Experiment:
    """Makes a run whose trained layers, learning rates and mixup change after the first epoch."""
    experiment = make_experiment()
    experiment.optimizer.name, experiment.optimizer.grad_clip_norm = "adamw", 1.0
    experiment.finetune = FineTune(head_only_epochs=1, layer_decay=0.8)
    experiment.augment.policy, experiment.augment.mixup_off_epochs = "flip|mixup", 1
    return experiment


def sharpness_aware() -> Experiment:
    """Makes a run with SAM, gradient accumulation, focal loss and balanced sampling."""
    experiment = make_experiment(gradient_accumulation_steps=2, loss="focal")
    experiment.model.sync_batch_norm = False
    experiment.augment.policy = "flip|randaugment|erase"
    experiment.optimizer.sam_rho, experiment.optimizer.schedule = 0.05, "one_cycle"
    experiment.data = Data(sampling="balanced")
    return experiment


def half_precision() -> Experiment:
    """Makes a run in mixed_float16 with LAMB."""
    experiment = make_experiment(precision="mixed_float16")
    experiment.optimizer.name = "lamb"
    return experiment


def lookahead() -> Experiment:
    """Makes a run with RAdam, Lookahead and class weights."""
    experiment = make_experiment()
    experiment.optimizer.name = "radam_lookahead"
    experiment.data = Data(class_weights="inverse")
    return experiment


@pytest.mark.extended
@pytest.mark.parametrize(
    "settings", [fine_tuning, sharpness_aware, lookahead, pytest.param(half_precision, marks=needs_float16)]
)
def test_run_resumes_to_same_bits(settings, synthetic_shards, tmp_path):
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    trainer.train(settings(), synthetic_shards.folder, str(uninterrupted), "one")
    shutil.copytree(uninterrupted, resumed)
    for step in checkpoints.list_steps(str(resumed / "checkpoints")):  # simulates a kill before the next checkpoint
        if step > EVERY:
            shutil.rmtree(resumed / "checkpoints" / run_dir.checkpoint_name(step))
    trainer.train(settings(), synthetic_shards.folder, str(resumed), "one")
    expected, found = final_state(uninterrupted, STEPS), final_state(resumed, STEPS)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
