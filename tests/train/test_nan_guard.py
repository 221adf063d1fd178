"""The first step whose loss or gradient is no number."""

import math

import numpy as np
import pytest

from fer.train.nan_guard import NotANumber, Watch
from fer.train.train_step import Done


def steps(*losses: float, norms: tuple = ()) -> Done:
    return Done(np.array(losses, np.float32), np.array(norms or [1.0] * len(losses), np.float32))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_the_first_of_several_is_named(wrong):
    watch = Watch(scales=False)
    watch.told(0, steps(1.0, 2.0))
    watch.told(2, Done(np.float32(1.0), np.float32(1.0)))
    watch.look()
    watch.told(3, steps(1.0, 1.0, wrong, wrong))
    watch.told(7, steps(wrong))
    with pytest.raises(NotANumber) as caught:
        watch.look()
    assert caught.value.step == 6
    watch.look()  # what was looked at is forgotten


def test_a_gradient_that_is_no_number_is_a_fault_unless_losses_are_scaled():
    overflowed = steps(1.0, 1.0, norms=(1.0, math.inf))
    scaled, plain = Watch(scales=True), Watch(scales=False)
    for watch in (scaled, plain):
        watch.told(10, overflowed)
    scaled.look()
    with pytest.raises(NotANumber, match="step 12"):
        plain.look()
