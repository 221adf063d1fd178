"""Checks that the first non-finite step is reported and that a run resumes behind it, with the same bits."""

import contextlib
import json
import math
import os
import shutil
import signal
from unittest import mock

import numpy as np
import pytest

from fer import run_dir
from fer.data import example_codec
from fer.errors import Stopped, UserError
from fer.run_dir import CheckpointRecord, Rollback
from fer.train import checkpoints, nan_recovery, train_step, trainer
from fer.train.nan_recovery import NanGuard, NonFiniteError
from fer.train.train_step import StepMetrics
from tests.train import factories
from tests.train.factories import final_state


def make_metrics(*losses: float, norms: tuple = ()) -> StepMetrics:
    """Makes the metrics of consecutive steps; gradient norms default to 1."""
    return StepMetrics(np.array(losses, np.float32), np.array(norms or [1.0] * len(losses), np.float32))


@pytest.mark.parametrize("non_finite", [math.nan, math.inf])
def test_nan_guard_reports_first_step_with_non_finite_loss(non_finite):
    guard = NanGuard(scales=False)
    guard.record(0, make_metrics(1.0, 2.0))
    guard.record(2, StepMetrics(np.float32(1.0), np.float32(1.0)))
    guard.check()
    guard.record(3, make_metrics(1.0, 1.0, non_finite, non_finite))
    guard.record(7, make_metrics(non_finite))
    with pytest.raises(NonFiniteError) as caught:
        guard.check()
    assert caught.value.step == 6
    guard.check()  # checked metrics are discarded


def test_nan_guard_rejects_non_finite_gradient_norm_unless_losses_are_scaled():
    overflowed = make_metrics(1.0, 1.0, norms=(1.0, math.inf))
    scaled, plain = NanGuard(scales=True), NanGuard(scales=False)
    for guard in (scaled, plain):
        guard.record(10, overflowed)
    scaled.check()
    with pytest.raises(NonFiniteError, match="step 12"):
        plain.check()


TOTAL, EVERY = 12, 4  # steps of the run, steps between two checkpoints
NAN_STEP = 7  # the step that takes the poisoned batch


@pytest.fixture
def settings():
    experiment = factories.experiment(max_steps=TOTAL, save_every_steps=EVERY, on_nan="rollback", ema_decay=0.0)
    experiment.augment.policy = "none"
    return experiment


@pytest.fixture
def poison(settings, synthetic_shards, monkeypatch):
    """Sets the target of one face of the batch of step `NAN_STEP` to NaN."""
    faces = example_codec.read_split(synthetic_shards, "train")
    factories.poison(monkeypatch.setattr, factories.select_face(settings, faces, NAN_STEP))


def read_rollbacks(workdir) -> list:
    return json.loads((workdir / "rollbacks.json").read_text())


@pytest.mark.extended
def test_run_skips_batches_since_checkpoint_and_resumes_to_same_bits_after_kill(
    settings, synthetic_shards, poison, tmp_path, capsys
):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    trainer.train(settings, synthetic_shards.folder, str(uninterrupted), "one")
    assert read_rollbacks(uninterrupted) == [{"step": NAN_STEP, "to": EVERY, "batches_left_out": NAN_STEP - EVERY}]
    assert (
        "became NaN or infinite at step 7: returning to step 4 and skipping the 3 batches since then"
        in capsys.readouterr().out
    )
    expected = final_state(uninterrupted, TOTAL)
    assert all(np.isfinite(value).all() for value in expected.values() if getattr(value, "dtype", None) == np.float32)

    shutil.copytree(uninterrupted, killed)  # simulates a kill after the rollback and a checkpoint
    shutil.rmtree(killed / "checkpoints" / run_dir.checkpoint_name(TOTAL))
    trainer.train(settings, synthetic_shards.folder, str(killed), "one")
    assert read_rollbacks(killed) == read_rollbacks(uninterrupted)
    assert_same_bits(final_state(killed, TOTAL), expected)


@pytest.mark.extended
def test_run_ends_with_same_bits_when_stopped_before_nan_and_killed_after_it(
    settings, synthetic_shards, poison, tmp_path, monkeypatch
):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    trainer.train(settings, synthetic_shards.folder, str(uninterrupted), "one")
    with monkeypatch.context() as patch:  # stops at a step without a planned checkpoint
        patch.setattr(train_step, "make_multi_step", stop_after(train_step.make_multi_step, NAN_STEP - 1))
        with pytest.raises(Stopped):
            trainer.train(settings, synthetic_shards.folder, str(killed), "one")
    assert checkpoints.list_steps(str(killed / "checkpoints"))[-1] == NAN_STEP - 1
    with monkeypatch.context() as patch:  # kills the run after the rollback and a checkpoint
        patch.setattr(checkpoints, "save", kill_after(checkpoints.save, 2 * EVERY))
        with pytest.raises(KeyboardInterrupt):
            trainer.train(settings, synthetic_shards.folder, str(killed), "one")
    assert read_rollbacks(killed) == read_rollbacks(uninterrupted)
    trainer.train(settings, synthetic_shards.folder, str(killed), "one")
    assert_same_bits(final_state(killed, TOTAL), final_state(uninterrupted, TOTAL))


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def stop_after(make, last: int):
    """Wraps `make_multi_step` so that the call that reaches step `last` is preceded by SIGTERM."""

    def make_stopping_call(batches, train_step, most):
        call, counts = make(batches, train_step, most), []

        def count_steps(count):
            counts.append(count)
            if sum(counts) == last:
                os.kill(os.getpid(), signal.SIGTERM)
            return call(count)

        return count_steps

    return make_stopping_call


def kill_after(save, last: int):
    """Wraps `checkpoints.save` to raise KeyboardInterrupt after the checkpoint of step `last`."""

    def save_then_kill(folder, state, record, *more):
        save(folder, state, record, *more)
        if record.step == last:
            raise KeyboardInterrupt

    return save_then_kill


def make_checkpoint_folders(tmp_path, steps: list[int]) -> str:
    """Creates checkpoints of these steps without a state."""
    for each in steps:
        folder = tmp_path / run_dir.checkpoint_name(each)
        folder.mkdir()
        run_dir.write_checkpoint_record(str(folder), CheckpointRecord(each, files={}))
    return str(tmp_path)


def test_roll_back_uses_planned_checkpoint_and_removes_later_ones(tmp_path):
    folder = make_checkpoint_folders(tmp_path, [20, 30, 37])
    assert nan_recovery.roll_back(folder, [], 39, every=10, epoch_steps=25) == Rollback(39, 30)
    assert checkpoints.list_steps(folder) == [20, 30]


def test_roll_back_accepts_last_checkpoint_of_an_epoch(tmp_path):
    folder = make_checkpoint_folders(tmp_path, [40, 50, 53])
    assert nan_recovery.roll_back(folder, [], 55, every=20, epoch_steps=25).to == 50


def test_roll_back_raises_user_error_after_three_rollbacks(tmp_path):
    folder = make_checkpoint_folders(tmp_path, [10])
    before = [Rollback(11, 10), Rollback(12, 10), Rollback(11, 10)]
    with pytest.raises(UserError, match=r"at step 12, after 3 rollbacks\. .*The last checkpoint is unchanged"):
        nan_recovery.roll_back(folder, before, 12, every=10, epoch_steps=25)
    assert checkpoints.list_steps(folder) == [10]


def test_rollbacks_count_skipped_batches_and_survive_serialization(tmp_path):
    record = CheckpointRecord(20, 1.5, [Rollback(17, 10), Rollback(12, 10)], {"state.index": "f00d"})
    assert nan_recovery.count_skipped_batches(record.rollbacks) == 9
    run_dir.write_checkpoint_record(str(tmp_path), record)
    assert run_dir.read_checkpoint_record(str(tmp_path)) == record


def test_run_skips_further_batches_when_nan_recurs_before_next_checkpoint(
    settings, synthetic_shards, tmp_path, monkeypatch
):
    """The batches of steps 7 and 9 are poisoned. After the first rollback, step 5 takes batch 8 and step 6 batch 9."""
    faces = example_codec.read_split(synthetic_shards, "train")
    for number in (NAN_STEP, NAN_STEP + 2):
        factories.poison(monkeypatch.setattr, factories.select_face(settings, faces, number))
    trainer.train(settings, synthetic_shards.folder, str(tmp_path), "one")
    assert read_rollbacks(tmp_path) == [
        {"step": NAN_STEP, "to": EVERY, "batches_left_out": 3},
        {"step": EVERY + 2, "to": EVERY, "batches_left_out": 2},
    ]
    assert len(final_state(tmp_path, TOTAL)) > 0


def test_run_raises_user_error_after_three_rollbacks_when_it_always_diverges(settings, synthetic_shards, tmp_path):
    settings.optimizer.learning_rate = 1e9
    with pytest.raises(UserError, match=r"after 3 rollbacks\. .*The last checkpoint is unchanged"):
        trainer.train(settings, synthetic_shards.folder, str(tmp_path), "one")
    assert len(read_rollbacks(tmp_path)) == nan_recovery.MAX_ROLLBACKS


@pytest.mark.parametrize(("scale", "raises"), [(1.0, True), (2.0, False)])
def test_log_reports_gradients_that_overflow_without_loss_scaling(scale, raises):
    """An overflow halves the loss scale, to 1 at the least; `scale` is that before the last step."""
    run = trainer.Trainer.__new__(trainer.Trainer)
    run.done, run.scales_loss, run.nan_guard = 20, True, NanGuard(scales=True)
    run.state, run.progress, run.copy, run.events = (mock.MagicMock() for _ in range(4))
    run.loss_scale, run.state.loss_scale.return_value = scale, 1.0
    run.state.loss.result.return_value = run.state.accuracy.result.return_value = 0.5
    metrics = make_metrics(1.0, 1.0, norms=(1.0, math.nan))
    with pytest.raises(NonFiniteError, match="step 20") if raises else contextlib.nullcontext():
        run._log(metrics, trainer.Throughput(1.0, 0.0))
