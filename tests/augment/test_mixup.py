"""Mixup and CutMix: images and targets are mixed in one proportion."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import mixup, policy
from fer.rng import BatchRng

MANY = 2000
FACES = np.random.default_rng(0).integers(0, 256, (MANY, 48, 48, 1), dtype=np.uint8)
TARGETS = np.eye(7, dtype=np.float32)[np.random.default_rng(1).integers(0, 7, MANY)]


@pytest.fixture(scope="module")
def rng() -> BatchRng:
    return BatchRng(tf.constant([1, 2]), tf.range(MANY), MANY)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 1.0])
def test_mixup_weights_have_the_moments_of_beta(rng, alpha):
    share = mixup.mixup(FACES, rng, alpha).numpy()[:, 0, 0, 0]
    variance = 1 / (4 * (2 * alpha + 1))
    assert share.mean() == pytest.approx(0.5, abs=5 * np.sqrt(variance / MANY))
    assert share.var() == pytest.approx(variance, rel=0.1)
    assert np.isfinite(share).all()


def test_cutmix_weights_are_0_within_a_rectangle(rng):
    keep = mixup.cutmix(FACES, rng, 1.0).numpy()[..., 0]
    assert set(np.unique(keep)) == {0.0, 1.0}
    theirs = keep == 0
    rows, columns = theirs.any(axis=2), theirs.any(axis=1)
    np.testing.assert_array_equal(theirs, rows[:, :, None] & columns[:, None, :])
    # Mean area of a clipped rectangle with area from Beta(1, 1) and uniform centre, simulated in NumPy.
    random = np.random.default_rng(0)
    side, centre = np.sqrt(1 - random.random(200_000)), random.random((2, 200_000))
    cut = np.minimum(centre + side / 2, 1) - np.maximum(centre - side / 2, 0)
    assert theirs.mean() == pytest.approx(cut.prod(axis=0).mean(), abs=0.02)


@pytest.mark.parametrize("text", ["mixup(0.5)", "cutmix(1.0)", "choose(mixup(0.5),cutmix(1.0))"])
def test_mix_mixes_images_and_targets_in_one_proportion(rng, text):
    images, targets = policy.augmenter(text)(FACES, TARGETS, rng)
    assert images.dtype == tf.uint8
    assert targets.dtype == tf.float32
    np.testing.assert_allclose(targets.numpy().sum(axis=1), 1, atol=1e-5)
    # White faces of one class among black ones of another: the grey level is the target.
    white = (np.arange(MANY) < MANY // 2)[:, None, None, None] * np.uint8(255) * np.ones((1, 48, 48, 1), np.uint8)
    classes = np.eye(7, dtype=np.float32)[(np.arange(MANY) < MANY // 2).astype(int)]
    images, targets = policy.augmenter(text)(white, classes, rng)
    np.testing.assert_allclose(images.numpy().mean(axis=(1, 2, 3)) / 255, targets.numpy()[:, 1], atol=0.003)


def test_mix_keeps_images_of_weight_1_and_replaces_those_of_weight_0():
    keep = tf.constant([1.0, 0.0, 1.0, 0.0])[:, None, None, None] * tf.ones([4, 48, 48, 1])
    images, targets = mixup.mix(FACES[:4], TARGETS[:4], keep)
    np.testing.assert_array_equal(images, FACES[[0, 2, 2, 0]])
    np.testing.assert_array_equal(targets, TARGETS[[0, 2, 2, 0]])


def test_choose_takes_both_ops_equally_often(rng):
    images, _ = policy.augmenter("choose(mixup(1.0),cutmix(1.0))")(FACES, TARGETS, rng)
    own_or_partner = (images.numpy() == FACES) | (images.numpy() == FACES[::-1])
    cut = own_or_partner.all(axis=(1, 2, 3))
    assert abs(cut.mean() - 0.5) < 5 * np.sqrt(0.25 / MANY)


def test_augmenter_applies_the_other_ops_when_mix_is_false(rng):
    part_rng = rng._replace(positions=tf.range(16))
    plain, _ = policy.augmenter("flip|erase(0.5)")(FACES[:16], TARGETS[:16], part_rng)
    unmixed, targets = policy.augmenter("flip|erase(0.5)|mixup(1.0)", mix=False)(FACES[:16], TARGETS[:16], part_rng)
    np.testing.assert_array_equal(unmixed, plain)
    np.testing.assert_array_equal(targets, TARGETS[:16])
