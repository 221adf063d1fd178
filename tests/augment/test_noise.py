"""Distribution of the noise that the op adds."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import noise
from fer.rng import BatchRng

MANY = 1000
GREY = np.full((MANY, 48, 48, 1), 128, np.uint8)


@pytest.fixture(scope="module")
def rng() -> BatchRng:
    return BatchRng(tf.constant([1, 2]), tf.range(MANY), MANY)


def test_noise_is_gaussian_with_uniform_standard_deviation(rng):
    added = noise.noise(GREY, rng, std=20.0, p=1.0).numpy().astype(float) - 128
    deviations = np.sqrt(np.maximum(added.var(axis=(1, 2, 3)) - 1 / 12, 0))  # without that of rounding
    np.testing.assert_allclose(np.quantile(deviations, [0.25, 0.5, 0.75]), [5, 10, 15], atol=1.0)
    strong = added[deviations > 10]
    standardized = (strong - strong.mean((1, 2, 3), keepdims=True)) / strong.std((1, 2, 3), keepdims=True)
    assert abs(standardized.mean()) < 0.01
    assert (standardized**4).mean() == pytest.approx(3, abs=0.05)  # the kurtosis of a Gaussian


def test_noise_is_independent_between_pixels_and_images(rng):
    added = noise.noise(GREY, rng, std=20.0, p=1.0).numpy()[..., 0].astype(float) - 128
    for one, other in [(added[:, :, 1:], added[:, :, :-1]), (added[:, 1:], added[:, :-1]), (added[1:], added[:-1])]:
        assert abs((one * other).mean()) < 0.01 * added.var()


def test_noise_changes_the_requested_fraction_of_images(rng):
    changed = (noise.noise(GREY, rng, std=64.0, p=0.25).numpy() != 128).any(axis=(1, 2, 3))
    assert abs(changed.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / MANY)


@pytest.mark.parametrize("level", [0, 255])
def test_noise_clips_at_the_bounds_of_uint8(rng, level):
    noisy = noise.noise(np.full_like(GREY, level), rng, std=20.0, p=1.0).numpy().astype(int)
    assert abs(noisy - level).max() < 128  # a value that wraps around would be at the other end
    assert (noisy == level).mean() > 0.4
