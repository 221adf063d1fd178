"""A run that met numbers that are none goes on without what led there, and can be killed on the way."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

from fer.data import example_codec
from fer.errors import Stopped, UserError
from fer.train import checkpoints, nan_recovery, train_step, trainer
from fer.train.nan_recovery import Rollback
from tests.train import factories
from tests.train.factories import final_state

TOTAL, EVERY = 12, 4  # steps of the run, and between two checkpoints
FAULT = 7  # the step at which the poisoned batch comes


@pytest.fixture
def settings():
    experiment = factories.experiment(steps=TOTAL, checkpoint_steps=EVERY, on_nan="rollback", ema_decay=0.0)
    experiment.augment.policy = "none"
    return experiment


@pytest.fixture
def poison(settings, synthetic_shards, monkeypatch):
    """A face of one batch whose target is no number."""
    faces = example_codec.read_split(synthetic_shards, "train")
    factories.poison(monkeypatch.setattr, factories.select_face(settings, faces, FAULT))


def rolled_back(workdir) -> list:
    return json.loads((workdir / "rollbacks.json").read_text())


def test_it_goes_on_without_the_batches_since_the_checkpoint_and_a_killed_run_ends_alike(
    settings, synthetic_shards, poison, tmp_path, capsys
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    trainer.train(settings, synthetic_shards.folder, str(whole), "one")
    assert rolled_back(whole) == [{"step": FAULT, "to": EVERY, "batches_left_out": FAULT - EVERY}]
    assert (
        "became NaN or infinite at step 7: returning to step 4 and skipping the 3 batches since then"
        in capsys.readouterr().out
    )
    expected = final_state(whole, TOTAL)
    assert all(np.isfinite(value).all() for value in expected.values() if getattr(value, "dtype", None) == np.float32)

    shutil.copytree(whole, killed)  # as if it had been killed after the rollback, with a checkpoint
    shutil.rmtree(killed / "checkpoints" / checkpoints.FORMAT.format(TOTAL))
    trainer.train(settings, synthetic_shards.folder, str(killed), "one")
    assert rolled_back(killed) == rolled_back(whole)
    assert_same_bits(final_state(killed, TOTAL), expected)


@pytest.mark.extended
def test_a_run_stopped_before_the_fault_and_killed_after_it_ends_alike(
    settings, synthetic_shards, poison, tmp_path, monkeypatch
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    trainer.train(settings, synthetic_shards.folder, str(whole), "one")
    with monkeypatch.context() as patch:  # stopped at a step that has no checkpoint otherwise
        patch.setattr(train_step, "make_multi_step", stopping_after(train_step.make_multi_step, FAULT - 1))
        with pytest.raises(Stopped):
            trainer.train(settings, synthetic_shards.folder, str(killed), "one")
    assert checkpoints.list_steps(str(killed / "checkpoints"))[-1] == FAULT - 1
    with monkeypatch.context() as patch:  # killed after the rollback, with a checkpoint
        patch.setattr(checkpoints, "save", killing_after(checkpoints.save, 2 * EVERY))
        with pytest.raises(KeyboardInterrupt):
            trainer.train(settings, synthetic_shards.folder, str(killed), "one")
    assert rolled_back(killed) == rolled_back(whole)
    trainer.train(settings, synthetic_shards.folder, str(killed), "one")
    assert_same_bits(final_state(killed, TOTAL), final_state(whole, TOTAL))


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def stopping_after(make, last: int):
    def made_calls(feed, train_step, most):
        call, made_so_far = make(feed, train_step, most), []

        def counting(count):
            made_so_far.append(count)
            if sum(made_so_far) == last:
                os.kill(os.getpid(), signal.SIGTERM)
            return call(count)

        return counting

    return made_calls


def killing_after(save, last: int):
    def saving(folder, state, done, *more):
        save(folder, state, done, *more)
        if done == last:
            raise KeyboardInterrupt

    return saving


def folder_of(tmp_path, steps: list[int]) -> str:
    for each in steps:
        (tmp_path / checkpoints.FORMAT.format(each)).mkdir()
    return str(tmp_path)


def test_it_goes_back_to_a_checkpoint_that_any_run_has_and_removes_those_after_it(tmp_path):
    folder = folder_of(tmp_path, [20, 30, 37])
    assert nan_recovery.roll_back(folder, [], 39, every=10, epoch_steps=25) == Rollback(39, 30)
    assert checkpoints.list_steps(folder) == [20, 30]


def test_an_epochs_last_checkpoint_is_one_too(tmp_path):
    folder = folder_of(tmp_path, [40, 50, 53])
    assert nan_recovery.roll_back(folder, [], 55, every=20, epoch_steps=25).to == 50


def test_it_does_not_go_back_for_ever(tmp_path):
    folder = folder_of(tmp_path, [10])
    before = [Rollback(11, 10), Rollback(12, 10), Rollback(11, 10)]
    with pytest.raises(UserError, match=r"at step 12, after 3 rollbacks\. .*The last checkpoint is unchanged"):
        nan_recovery.roll_back(folder, before, 12, every=10, epoch_steps=25)
    assert checkpoints.list_steps(folder) == [10]


def test_batches_left_out_add_up_and_survive_their_record():
    rollbacks = [Rollback(17, 10), Rollback(12, 10)]
    assert nan_recovery.count_skipped_batches(rollbacks) == 9
    assert nan_recovery.parse_rollbacks(json.loads(json.dumps(rollbacks))) == rollbacks


def test_a_fault_that_comes_again_before_the_next_checkpoint_leaves_out_more(
    settings, synthetic_shards, tmp_path, monkeypatch
):
    """The batches of steps 7 and 9: after the first fault, step 5 takes the 8th batch and step 6 the 9th."""
    faces = example_codec.read_split(synthetic_shards, "train")
    for number in (FAULT, FAULT + 2):
        factories.poison(monkeypatch.setattr, factories.select_face(settings, faces, number))
    trainer.train(settings, synthetic_shards.folder, str(tmp_path), "one")
    assert rolled_back(tmp_path) == [
        {"step": FAULT, "to": EVERY, "batches_left_out": 3},
        {"step": EVERY + 2, "to": EVERY, "batches_left_out": 2},
    ]
    assert len(final_state(tmp_path, TOTAL)) > 0


def test_a_run_that_diverges_each_time_ends_after_three_rollbacks(settings, synthetic_shards, tmp_path):
    settings.optimizer.learning_rate = 1e20
    with pytest.raises(UserError, match=r"after 3 rollbacks\. .*The last checkpoint is unchanged"):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path), "one")
    assert len(rolled_back(tmp_path)) == nan_recovery.MAX_ROLLBACKS
