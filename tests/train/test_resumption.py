"""Promise 1 with the options that keep something of their own: a run that was stopped ends with the same bits."""

import numpy as np
import pytest

from fer.config import Data, Experiment, FineTune
from fer.errors import Stopped
from fer.train import calls, loop
from tests.train import made
from tests.train.made import final_state
from tests.train.test_optimizers import addons_alone
from tests.train.test_rollback import stopping_after

STEPS = 24  # 20 are an epoch
STOP = 7


def phases() -> Experiment:
    """What is trained, how fast, and whether faces are mixed changes after the first epoch."""
    experiment = made.experiment(steps=STEPS, checkpoint_steps=100)
    experiment.optimizer.name, experiment.optimizer.clip_norm = "adamw", 1.0
    experiment.finetune = FineTune(head_epochs=1, layer_decay=0.8)
    experiment.augment.policy, experiment.augment.mixing_off_epochs = "flip|randaugment|erase|mixup", 1
    return experiment


def sharpness() -> Experiment:
    experiment = made.experiment(steps=STEPS, checkpoint_steps=100, accumulation=2, loss="focal")
    experiment.model.sync_batch_norm = False
    experiment.optimizer.sam_rho, experiment.optimizer.schedule = 0.05, "one_cycle"
    experiment.data = Data(sampling="balanced")
    return experiment


def half_precision() -> Experiment:
    experiment = made.experiment(steps=STEPS, checkpoint_steps=100, precision="mixed_float16")
    experiment.optimizer.name = "lamb"
    return experiment


def lookahead() -> Experiment:
    experiment = made.experiment(steps=STEPS, checkpoint_steps=100)
    experiment.optimizer.name = "radam_lookahead"
    experiment.data = Data(class_weights="inverse")
    return experiment


OF_ADDONS = [pytest.param(settings, marks=addons_alone) for settings in (half_precision, lookahead)]


@pytest.mark.parametrize("settings", [phases, sharpness, *OF_ADDONS])
def test_a_run_that_was_stopped_ends_with_the_same_bits(settings, synthetic_shards, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    loop.train(settings(), synthetic_shards.folder, str(whole), "one")
    with monkeypatch.context() as patch:
        patch.setattr(calls, "calls", stopping_after(calls.calls, STOP))
        with pytest.raises(Stopped):
            loop.train(settings(), synthetic_shards.folder, str(stopped), "one")
    loop.train(settings(), synthetic_shards.folder, str(stopped), "one")
    expected, found = final_state(whole, STEPS), final_state(stopped, STEPS)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
