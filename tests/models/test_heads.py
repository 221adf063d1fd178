"""Pooling and heads, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import POOLINGS, Model
from fer.models import classifier, heads

FEATURES = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
BY_HAND = {
    "avg": FEATURES.mean(axis=(1, 2)),
    "max": FEATURES.max(axis=(1, 2)),
    "avgmax": (FEATURES.mean(axis=(1, 2)) + FEATURES.max(axis=(1, 2))) / 2,
    "gem": (FEATURES**3).mean(axis=(1, 2)) ** (1 / 3),
}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_what_its_formula_says(pooling):
    inputs = tf.keras.Input(FEATURES.shape[1:])
    model = tf.keras.Model(inputs, heads.pooled(inputs, pooling))
    np.testing.assert_allclose(model(FEATURES), BY_HAND[pooling], rtol=1e-5)


def test_the_power_of_the_generalised_mean_is_learned_also_from_zeros():
    model = classifier.build(Model(pooling="gem", image_size=24), "mixed_bfloat16")
    power = model.get_layer("pool").power
    faces = np.zeros([2, 48, 48, 1], np.uint8)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(faces)))
    assert power.dtype == tf.float32
    assert np.isfinite(tape.gradient(loss, power).numpy())
