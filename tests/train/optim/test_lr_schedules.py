"""The learning rate by step."""

import numpy as np
import pytest

from fer.config import Experiment, Optimizer, Train
from fer.train.optim import lr_schedules


def rate(steps_per_epoch: int, total: int, **settings) -> lr_schedules.LRSchedule:
    return lr_schedules.LRSchedule(Experiment(optimizer=Optimizer(**settings)), steps_per_epoch, total)


def test_the_rate_rises_in_a_straight_line_then_falls_half_a_cosine_to_zero():
    chosen = rate(5, 50, learning_rate=0.4, warmup_epochs=2.0)
    assert float(chosen(0)) == 0
    assert float(chosen(5)) == pytest.approx(0.2)
    assert float(chosen(10)) == pytest.approx(0.4)
    for step in (20, 30, 47):
        expected = 0.4 * 0.5 * (1 + np.cos(np.pi * (step - 10) / 40))
        assert float(chosen(step)) == pytest.approx(expected, abs=1e-6)
    assert float(chosen(50)) == pytest.approx(0, abs=1e-8)


def test_without_warm_up_it_starts_at_the_top():
    assert float(rate(5, 50, learning_rate=0.4, warmup_epochs=0.0)(0)) == pytest.approx(0.4)


def test_a_warm_up_longer_than_the_run_leaves_a_step_to_fall():
    chosen = rate(100, 3, warmup_epochs=5.0)
    assert np.isfinite([float(chosen(step)) for step in range(4)]).all()


def test_one_cycle_rises_and_falls_along_cosines_between_its_bounds():
    chosen = rate(10, 100, learning_rate=0.5, schedule="one_cycle", warmup_epochs=3.0)
    assert float(chosen(0)) == pytest.approx(0.5 / 25)
    assert float(chosen(15)) == pytest.approx(0.5 * (1 / 25 + 1) / 2, rel=1e-5)
    assert float(chosen(30)) == pytest.approx(0.5)
    assert float(chosen(65)) == pytest.approx(0.5 * (1e-4 + 1) / 2, rel=1e-3)
    assert float(chosen(100)) == pytest.approx(0.5 * 1e-4, rel=1e-2)


def test_steps_multiply_the_rate():
    chosen = rate(10, 100, learning_rate=1.0, schedule="step", step_epochs=3.0, step_factor=0.1, warmup_epochs=0.0)
    expected = {0: 1.0, 29: 1.0, 30: 0.1, 59: 0.1, 60: 0.01, 99: 0.001}
    assert {step: float(chosen(step)) for step in expected} == pytest.approx(expected, rel=1e-5)


def test_a_constant_rate_stays_after_its_warm_up():
    chosen = rate(10, 100, learning_rate=0.3, schedule="constant", warmup_epochs=1.0)
    assert [float(chosen(step)) for step in (5, 10, 99)] == pytest.approx([0.15, 0.3, 0.3])


def test_the_rate_grows_with_the_global_batch_if_asked():
    settings = Experiment(optimizer=Optimizer(learning_rate=0.1, rate_for_batch=256), train=Train(global_batch=1024))
    assert lr_schedules.peak_lr(settings) == pytest.approx(0.4)
    settings.optimizer.rate_for_batch = 0
    assert lr_schedules.peak_lr(settings) == pytest.approx(0.1)


def test_an_interval_shorter_than_a_step_is_one_step():
    chosen = rate(20, 100, learning_rate=1.0, schedule="step", step_epochs=0.01, step_factor=0.5, warmup_epochs=0.0)
    assert [float(chosen(step)) for step in (0, 1, 5)] == pytest.approx([1, 1 / 2, 1 / 32])
