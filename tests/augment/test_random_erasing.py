"""Rectangles that random erasing fills."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import random_erasing
from fer.rng import BatchRng

MANY = 4000
WHITE = np.full((MANY, 48, 48, 1), 255, np.uint8)


@pytest.fixture(scope="module")
def rng() -> BatchRng:
    return BatchRng(tf.constant([1, 2]), tf.range(MANY), MANY)


def test_erase_fills_the_requested_fraction_of_images(rng):
    erased = (random_erasing.erase(WHITE, rng, p=0.25).numpy() == 128).any(axis=(1, 2, 3))
    assert abs(erased.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / MANY)


def test_erase_fills_a_rectangle_of_the_drawn_area(rng):
    covered = random_erasing.erase(WHITE, rng, p=1.0, low=0.1, high=0.3).numpy()[..., 0] == 128
    rows, columns = covered.any(axis=2), covered.any(axis=1)
    np.testing.assert_array_equal(covered, rows[:, :, None] & columns[:, None, :])
    share = covered.mean(axis=(1, 2))
    assert share.min() > 0.07  # pixels count by their centre: up to half a pixel a side more or less
    assert share.max() < 0.35
    assert share.mean() == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize("share", [0.33, 0.5, 0.9])
def test_erase_fills_the_requested_area_when_it_is_large(rng, share):
    covered = random_erasing.erase(WHITE, rng, p=1.0, low=share, high=share).numpy()[..., 0] == 128
    found = covered.mean(axis=(1, 2))
    assert found.mean() == pytest.approx(share, abs=0.01)
    assert abs(found - share).max() < 0.045


def test_erase_keeps_pixels_outside_the_rectangle(rng):
    faces = np.random.default_rng(0).integers(0, 100, WHITE.shape, dtype=np.uint8)
    erased = random_erasing.erase(faces, rng, p=1.0).numpy()
    np.testing.assert_array_equal(erased[erased != 128], faces[erased != 128])


def test_erase_reaches_every_pixel(rng):
    covered = random_erasing.erase(WHITE, rng, p=1.0).numpy()[..., 0] == 128
    assert covered.any(axis=0).all()
