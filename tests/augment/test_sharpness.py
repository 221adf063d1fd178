"""Sharpness against Pillow."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter

from fer.augment import sharpness

FACES = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)


def adjusted(*factors: float) -> np.ndarray:
    return sharpness.adjust(FACES, tf.constant(factors, tf.float32)).numpy()[..., 0].astype(int)


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 1.9])
def test_it_agrees_with_pillow_within_one_grey_level(factor):
    theirs = [ImageEnhance.Sharpness(Image.fromarray(face[..., 0])).enhance(factor) for face in FACES]
    assert np.abs(adjusted(*[factor] * 4) - np.stack(theirs).astype(int)).max() <= 1


def test_zero_is_pillows_smoothing():
    theirs = [Image.fromarray(face[..., 0]).filter(ImageFilter.SMOOTH) for face in FACES]
    assert np.abs(adjusted(0, 0, 0, 0) - np.stack(theirs).astype(int)).max() <= 1


def test_each_image_has_its_own_factor():
    mixed = adjusted(1.0, 0.0, 1.0, 1.9)
    np.testing.assert_array_equal(mixed[[0, 2]], FACES[[0, 2], ..., 0])
    np.testing.assert_array_equal(mixed[1], adjusted(0, 0, 0, 0)[1])
    np.testing.assert_array_equal(mixed[3], adjusted(1.9, 1.9, 1.9, 1.9)[3])
