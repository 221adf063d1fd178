"""Distributions of the amounts that ops draw."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import geometric, ops, photometric, policy
from fer.rng import BatchRng

MANY = 20_000


@pytest.fixture(scope="module")
def rng() -> BatchRng:
    return BatchRng(tf.constant([1, 2]), tf.range(MANY), MANY)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 1.0])
def test_flip_mirrors_the_requested_fraction(rng, p):
    flipped = ops.flip(rng, 48, p).matrices.xx.numpy() < 0
    # five standard errors at 20,000 images
    assert abs(flipped.mean() - p) <= 5 * np.sqrt(p * (1 - p) / MANY)


@pytest.mark.parametrize(
    ("argument", "strength", "low", "high", "measure"),
    [
        ("rotate", 15.0, -15.0, 15.0, lambda m: np.rad2deg(np.arctan2(m.yx, m.xx))),
        ("scale", 0.1, 0.9, 1.1, lambda m: 1 / m.xx),
        ("shift", 0.08, -3.84, 3.84, lambda m: -m.x),
        ("shift", 0.08, -3.84, 3.84, lambda m: -m.y),
        ("shear", 0.1, -0.1, 0.1, lambda m: -m.xy),
    ],
    ids=["rotate", "scale", "shift right", "shift down", "shear"],
)
def test_affine_amounts_are_uniform_within_their_bounds(rng, argument, strength, low, high, measure):
    matrices = ops.affine(rng, 48, **{argument: strength}).matrices
    drawn = measure(geometric.Matrices(*(entry.numpy().astype(float) for entry in matrices)))
    assert drawn.min() >= low - 1e-4
    assert drawn.max() <= high + 1e-4
    counts, _ = np.histogram(drawn, bins=20, range=(low - 1e-4, high + 1e-4))
    chi_square = ((counts - MANY / 20) ** 2 / (MANY / 20)).sum()
    assert chi_square < 43.8  # the 99.9th percentile with 19 degrees of freedom


def test_affine_amounts_of_an_image_are_independent(rng):
    matrices = ops.affine(rng, 48, rotate=15.0, shift=0.08).matrices
    angle, right = np.arctan2(matrices.yx, matrices.xx), matrices.x.numpy()
    assert abs(np.corrcoef(angle, right)[0, 1]) < 5 / np.sqrt(MANY)


@pytest.mark.parametrize(
    "text", ["brightness", "flip|gamma", "contrast", "brightness|autocontrast(p=0.5)|equalize(p=0.5)"]
)
def test_compute_histograms_takes_only_images_that_need_them(text, monkeypatch):
    """The result is that of histograms of all images."""
    faces = np.random.default_rng(0).integers(60, 200, (64, 48, 48, 1), dtype=np.uint8)
    rng, targets, counts = BatchRng(tf.constant([1, 2]), tf.range(64), 64), tf.zeros([64, 7]), []
    histogram = photometric.histogram
    monkeypatch.setattr(photometric, "histogram", lambda images: counts.append(len(images)) or histogram(images))
    some, _ = policy.augmenter(text)(faces, targets, rng)
    monkeypatch.setattr(ops, "_compute_histograms", lambda images, *_: histogram(images))
    np.testing.assert_array_equal(some, policy.augmenter(text)(faces, targets, rng)[0])
    assert sum(counts) in {"brightness": [0], "flip|gamma": [0], "contrast": [64]}.get(text, range(32, 64))
