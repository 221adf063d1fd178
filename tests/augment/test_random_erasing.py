"""What erasing covers."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import random_erasing
from fer.rng import BatchRng

MANY = 4000
WHITE = np.full((MANY, 48, 48, 1), 255, np.uint8)


@pytest.fixture(scope="module")
def draws() -> BatchRng:
    return BatchRng(tf.constant([1, 2]), tf.range(MANY), MANY)


def test_as_many_images_are_erased_as_asked(draws):
    erased = (random_erasing.erase(WHITE, draws, p=0.25).numpy() == 128).any(axis=(1, 2, 3))
    assert abs(erased.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / MANY)


def test_what_is_covered_is_a_rectangle_of_the_area_drawn(draws):
    covered = random_erasing.erase(WHITE, draws, p=1.0, low=0.1, high=0.3).numpy()[..., 0] == 128
    rows, columns = covered.any(axis=2), covered.any(axis=1)
    np.testing.assert_array_equal(covered, rows[:, :, None] & columns[:, None, :])
    share = covered.mean(axis=(1, 2))
    assert share.min() > 0.07  # a pixel's centre decides, so that up to half a pixel a side is lost or won
    assert share.max() < 0.35
    assert share.mean() == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize("share", [0.33, 0.5, 0.9])
def test_a_large_rectangle_covers_what_is_asked_for_too(draws, share):
    covered = random_erasing.erase(WHITE, draws, p=1.0, low=share, high=share).numpy()[..., 0] == 128
    found = covered.mean(axis=(1, 2))
    assert found.mean() == pytest.approx(share, abs=0.01)
    assert abs(found - share).max() < 0.045


def test_the_rest_stays_as_it_was(draws):
    faces = np.random.default_rng(0).integers(0, 100, WHITE.shape, dtype=np.uint8)
    erased = random_erasing.erase(faces, draws, p=1.0).numpy()
    np.testing.assert_array_equal(erased[erased != 128], faces[erased != 128])


def test_every_place_can_be_covered(draws):
    covered = random_erasing.erase(WHITE, draws, p=1.0).numpy()[..., 0] == 128
    assert covered.any(axis=0).all()
