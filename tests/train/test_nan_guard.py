"""Checks that the first step with a non-finite loss or gradient is reported."""

import math

import numpy as np
import pytest

from fer.train.nan_guard import NanGuard, NonFiniteError
from fer.train.train_step import StepMetrics


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
