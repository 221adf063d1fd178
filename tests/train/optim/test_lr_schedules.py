"""Checks the learning rate at each step."""

import numpy as np
import pytest
import tensorflow as tf

from fer import config_fields
from fer.config import Experiment, Optimizer, Train
from fer.train.optim import lr_schedules


def make_schedule(steps_per_epoch: int, total: int, **settings) -> lr_schedules.LRSchedule:
    """Makes the schedule of a run of `total` steps; `settings` are fields of `fer.config.Optimizer`."""
    return lr_schedules.LRSchedule(Experiment(optimizer=Optimizer(**settings)), steps_per_epoch, total)


def test_schedule_warms_up_linearly_then_decays_by_cosine_to_zero():
    schedule = make_schedule(5, 50, learning_rate=0.4, warmup_epochs=2.0)
    assert float(schedule(0)) == 0
    assert float(schedule(5)) == pytest.approx(0.2)
    assert float(schedule(10)) == pytest.approx(0.4)
    for step in (20, 30, 47):
        expected = 0.4 * 0.5 * (1 + np.cos(np.pi * (step - 10) / 40))
        assert float(schedule(step)) == pytest.approx(expected, abs=1e-6)
    assert float(schedule(50)) == pytest.approx(0, abs=1e-8)


def test_schedule_starts_at_peak_without_warmup():
    assert float(make_schedule(5, 50, learning_rate=0.4, warmup_epochs=0.0)(0)) == pytest.approx(0.4)


def test_schedule_is_finite_when_warmup_exceeds_the_run():
    schedule = make_schedule(100, 3, warmup_epochs=5.0)
    assert np.isfinite([float(schedule(step)) for step in range(4)]).all()


def test_one_cycle_schedule_follows_cosines_between_its_bounds():
    schedule = make_schedule(10, 100, learning_rate=0.5, schedule="one_cycle", warmup_epochs=3.0)
    assert float(schedule(0)) == pytest.approx(0.5 / 25)
    assert float(schedule(15)) == pytest.approx(0.5 * (1 / 25 + 1) / 2, rel=1e-5)
    assert float(schedule(30)) == pytest.approx(0.5)
    assert float(schedule(65)) == pytest.approx(0.5 * (1e-4 + 1) / 2, rel=1e-3)
    assert float(schedule(100)) == pytest.approx(0.5 * 1e-4, rel=1e-2)


def test_step_schedule_multiplies_learning_rate_at_each_interval():
    schedule = make_schedule(
        10, 100, learning_rate=1.0, schedule="step", decay_epochs=3.0, decay_rate=0.1, warmup_epochs=0.0
    )
    expected = {0: 1.0, 29: 1.0, 30: 0.1, 59: 0.1, 60: 0.01, 99: 0.001}
    assert {step: float(schedule(step)) for step in expected} == pytest.approx(expected, rel=1e-5)


def test_constant_schedule_stays_at_peak_after_warmup():
    schedule = make_schedule(10, 100, learning_rate=0.3, schedule="constant", warmup_epochs=1.0)
    assert [float(schedule(step)) for step in (5, 10, 99)] == pytest.approx([0.15, 0.3, 0.3])


@pytest.mark.parametrize("name", config_fields.limits_by_path(Optimizer)["schedule"].choices)
def test_schedule_of_a_longer_run_begins_with_the_same_values_unless_listed(name):
    short, long = (make_schedule(10, 10 * epochs, schedule=name, decay_epochs=1.5)(tf.range(60)) for epochs in (6, 9))
    assert np.array_equal(short, long) == (name not in lr_schedules.LENGTH_SCHEDULES)


def test_peak_lr_scales_with_global_batch_when_rate_for_batch_is_set():
    settings = Experiment(
        optimizer=Optimizer(learning_rate=0.1, base_batch_size=256), train=Train(global_batch_size=1024)
    )
    assert lr_schedules.peak_lr(settings) == pytest.approx(0.4)
    settings.optimizer.base_batch_size = 0
    assert lr_schedules.peak_lr(settings) == pytest.approx(0.1)


def test_step_schedule_interval_is_at_least_one_step():
    schedule = make_schedule(
        20, 100, learning_rate=1.0, schedule="step", decay_epochs=0.01, decay_rate=0.5, warmup_epochs=0.0
    )
    assert [float(schedule(step)) for step in (0, 1, 5)] == pytest.approx([1, 1 / 2, 1 / 32])
