"""Dropout as a function of (seed, position)."""

import numpy as np
import pytest
import tensorflow as tf

from fer.models.dropout import PositionalDropout, dropout_rng
from fer.rng import BatchRng

ONES = tf.ones([1000, 50])


def masks(layer: PositionalDropout, positions, global_batch=1000, seed=(0, 0), inputs=ONES) -> np.ndarray:
    with dropout_rng(BatchRng(tf.constant(seed, tf.int32), tf.constant(positions, tf.int32), global_batch)):
        return layer(inputs, training=True).numpy()


def test_dropout_zeroes_its_rate_and_keeps_the_mean():
    dropped = masks(PositionalDropout(0.3, salt=1), range(1000))
    assert abs((dropped == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 50_000)
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1) / np.float32(0.7)}


def test_dropout_is_identity_at_inference():
    np.testing.assert_array_equal(PositionalDropout(0.5, salt=1)(ONES), ONES)


def test_dropout_mask_depends_on_global_position_not_replica():
    layer = PositionalDropout(0.5, salt=1)
    whole = masks(layer, range(1000))
    part = masks(layer, range(600, 1000), inputs=ONES[600:])
    np.testing.assert_array_equal(part, whole[600:])


def test_seeds_and_layers_draw_different_masks():
    layer = PositionalDropout(0.5, salt=1)
    first = masks(layer, range(1000))
    assert (masks(layer, range(1000), seed=(0, 1)) != first).any()
    assert (masks(PositionalDropout(0.5, salt=2), range(1000)) != first).any()


def test_dropout_with_shared_mask_drops_whole_examples():
    layer = PositionalDropout(0.5, salt=1, noise_shape=(None, 1))
    dropped = masks(layer, range(1000))
    assert ((dropped == 0).all(axis=1) | (dropped == 2).all(axis=1)).all()
    assert 0.4 < (dropped == 0).mean() < 0.6


def test_float16_inputs_stay_float16():
    dropped = masks(PositionalDropout(0.5, salt=1, dtype="float16"), range(1000), inputs=tf.cast(ONES, tf.float16))
    assert dropped.dtype == np.float16


def test_dropout_rejects_training_without_a_seed():
    with pytest.raises(RuntimeError, match="dropout_rng"):
        PositionalDropout(0.5, salt=1)(ONES, training=True)
