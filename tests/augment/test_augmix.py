"""AugMix: mixtures of an image with changed copies of itself."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import augmix
from fer.rng import BatchRng

MANY = 600
RNG = BatchRng(tf.constant([1, 2]), tf.range(MANY), MANY)
ROWS, COLUMNS = np.mgrid[:48, :48]
FACE = (127 + 90 * np.sin(ROWS / 7) * np.cos(COLUMNS / 9)).astype(np.uint8)
FACES = np.broadcast_to(FACE[None, ..., None], (MANY, 48, 48, 1))


@pytest.fixture(scope="module")
def mixed() -> np.ndarray:
    return augmix.augmix(FACES, RNG).numpy()


def test_augmix_keeps_faces_similar_and_all_different(mixed):
    assert mixed.dtype == np.uint8
    correlation = [np.corrcoef(FACE.ravel(), each.ravel())[0, 1] for each in mixed[..., 0]]
    assert np.median(correlation) > 0.9
    assert len(np.unique(mixed.reshape(MANY, -1), axis=0)) > 0.95 * MANY


def test_augmix_severity_increases_the_distance_to_the_original(mixed):
    severe = augmix.augmix(FACES, RNG, severity=10.0).numpy()

    def distance(images):
        return np.abs(images.astype(int) - FACES).mean()

    assert distance(severe) > 1.5 * distance(mixed)


def test_augmix_copies_have_a_total_weight_from_beta(monkeypatch):
    """Black images with white copies show the total weight as their grey level: mean and variance of Beta(1, 1)."""
    black, white = (tf.fill([MANY, 4, 4, 1], tf.constant(level, tf.uint8)) for level in (0, 255))
    monkeypatch.setattr(augmix.ops, "apply", lambda *_: white)
    levels = augmix.augmix(black, RNG).numpy()[:, 0, 0, 0] / 255
    assert levels.mean() == pytest.approx(1 / 2, abs=5 * np.sqrt(1 / 12 / MANY))
    assert levels.var() == pytest.approx(1 / 12, rel=0.15)


def test_posterize_keeps_as_many_bits_as_the_authors_code():
    """4 minus the integer part of 4 times a tenth of the level; at least 1."""
    strengths = tf.constant([0.01, 0.24, 0.25, 0.3, 0.75, 1.0])
    assert augmix.CHAIN.bits(strengths).numpy().tolist() == [4, 4, 3, 3, 1, 1]


def test_augmix_copies_have_weights_from_a_flat_dirichlet(monkeypatch):
    """Black images whose first copy is white show weight w times total weight s: mean 1/6, variance 1/36.

    E(w) E(s) = 1/3 * 1/2 and E(w^2) E(s^2) - 1/36 = 1/6 * 1/3 - 1/36 for w from Dirichlet(1, 1, 1), s from Beta(1, 1).
    """
    black = tf.zeros([MANY, 4, 4, 1], tf.uint8)
    copies = iter([tf.fill([MANY, 4, 4, 1], tf.constant(255, tf.uint8)), black, black])
    monkeypatch.setattr(augmix.ops, "apply", lambda *_: next(copies))
    levels = augmix.augmix(black, RNG).numpy()[:, 0, 0, 0] / 255
    assert levels.mean() == pytest.approx(1 / 6, abs=5 * np.sqrt(1 / 36 / MANY))
    assert levels.var() == pytest.approx(1 / 36, rel=0.25)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_draw_chain_has_one_to_three_ops_equally_often(number):
    """The first op is in every chain, the second in two of three, the third in one of three."""
    layers = []
    monkey = pytest.MonkeyPatch()
    monkey.setattr(augmix.ops, "compose", lambda chain, *_: layers.extend(chain))
    augmix._draw_chain(RNG, 48, 3.0)
    monkey.undo()
    occurs = np.any([drew.numpy() for drew in layers[number].drawn.values()], axis=0).mean()
    expected = (3 - number) / 3
    assert abs(occurs - expected) <= 5 * np.sqrt(expected * (1 - expected) / MANY)
