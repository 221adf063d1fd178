"""The first step whose loss or gradient is no number."""

import math

import numpy as np
import pytest

from fer.train.nan_guard import NanGuard, NonFiniteError
from fer.train.train_step import StepMetrics


def steps(*losses: float, norms: tuple = ()) -> StepMetrics:
    return StepMetrics(np.array(losses, np.float32), np.array(norms or [1.0] * len(losses), np.float32))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_the_first_of_several_is_named(wrong):
    watch = NanGuard(scales=False)
    watch.record(0, steps(1.0, 2.0))
    watch.record(2, StepMetrics(np.float32(1.0), np.float32(1.0)))
    watch.check()
    watch.record(3, steps(1.0, 1.0, wrong, wrong))
    watch.record(7, steps(wrong))
    with pytest.raises(NonFiniteError) as caught:
        watch.check()
    assert caught.value.step == 6
    watch.check()  # what was looked at is forgotten


def test_a_gradient_that_is_no_number_is_a_fault_unless_losses_are_scaled():
    overflowed = steps(1.0, 1.0, norms=(1.0, math.inf))
    scaled, plain = NanGuard(scales=True), NanGuard(scales=False)
    for watch in (scaled, plain):
        watch.record(10, overflowed)
    scaled.check()
    with pytest.raises(NonFiniteError, match="step 12"):
        plain.check()
