"""Promise 1 with the options that keep something of their own: a run that goes on ends with the same bits."""

import shutil

import numpy as np
import pytest

from fer.config import Data, Experiment, FineTune
from fer.train import checkpoints, trainer
from tests.train import factories
from tests.train.factories import final_state
from tests.train.optim.test_optimizers import needs_addons

BATCH, STEPS = 64, 7  # 5 are an epoch
EVERY = 3  # steps between two checkpoints


def experiment_of(**train) -> Experiment:
    return factories.experiment(global_batch=BATCH, steps=STEPS, checkpoint_steps=EVERY, ema_decay=0.0, **train)


def phases() -> Experiment:
    """What is trained, how fast, and whether faces are mixed changes after the first epoch."""
    experiment = experiment_of()
    experiment.optimizer.name, experiment.optimizer.clip_norm = "adamw", 1.0
    experiment.finetune = FineTune(head_epochs=1, layer_decay=0.8)
    experiment.augment.policy, experiment.augment.mixing_off_epochs = "flip|mixup", 1
    return experiment


def sharpness() -> Experiment:
    experiment = experiment_of(accumulation=2, loss="focal")
    experiment.model.sync_batch_norm = False
    experiment.augment.policy = "flip|randaugment|erase"
    experiment.optimizer.sam_rho, experiment.optimizer.schedule = 0.05, "one_cycle"
    experiment.data = Data(sampling="balanced")
    return experiment


def half_precision() -> Experiment:
    experiment = experiment_of(precision="mixed_float16")
    experiment.optimizer.name = "lamb"
    return experiment


def lookahead() -> Experiment:
    experiment = experiment_of()
    experiment.optimizer.name = "radam_lookahead"
    experiment.data = Data(class_weights="inverse")
    return experiment


EXTENDED = [pytest.param(sharpness, marks=pytest.mark.extended)]
EXTENDED += [pytest.param(each, marks=[needs_addons, pytest.mark.extended]) for each in (half_precision, lookahead)]


@pytest.mark.parametrize("settings", [phases, *EXTENDED])
def test_a_run_that_goes_on_ends_with_the_same_bits(settings, synthetic_shards, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trainer.train(settings(), synthetic_shards.folder, str(whole), "one")
    shutil.copytree(whole, cut)
    for step in checkpoints.list_steps(str(cut / "checkpoints")):  # as if it had been killed before the next one
        if step > EVERY:
            shutil.rmtree(cut / "checkpoints" / checkpoints.FORMAT.format(step))
    trainer.train(settings(), synthetic_shards.folder, str(cut), "one")
    expected, found = final_state(whole, STEPS), final_state(cut, STEPS)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
