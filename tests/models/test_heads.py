"""Pooling and heads, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.config_fields import limits_by_path
from fer.models import classifier, dropout, heads
from fer.rng import BatchRng
from tests.marks import HALF_PRECISIONS

FEATURES = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
BY_HAND = {
    "avg": FEATURES.mean(axis=(1, 2)),
    "max": FEATURES.max(axis=(1, 2)),
    "avgmax": (FEATURES.mean(axis=(1, 2)) + FEATURES.max(axis=(1, 2))) / 2,
    "gem": (FEATURES**3).mean(axis=(1, 2)) ** (1 / 3),
}


@pytest.mark.parametrize("pooling", limits_by_path(Model)["pooling"].choices)
def test_pooling_is_what_its_formula_says(pooling):
    inputs = tf.keras.Input(FEATURES.shape[1:])
    model = tf.keras.Model(inputs, heads.pool(inputs, pooling))
    np.testing.assert_allclose(model(FEATURES), BY_HAND[pooling], rtol=1e-5)


def test_class_maps_are_pooled_after_their_convolution():
    inputs = tf.keras.Input(FEATURES.shape[1:])
    model = tf.keras.Model(inputs, heads.classification_head(inputs, "avg", 0.0, class_maps=True, classes=7))
    kernel, bias = model.get_layer("logits").weights
    by_hand = tf.nn.conv2d(FEATURES, kernel, 1, "SAME").numpy().mean(axis=(1, 2)) + bias
    assert kernel.shape == (3, 3, 5, 7)
    np.testing.assert_allclose(model(FEATURES), by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", HALF_PRECISIONS)
def test_generalized_mean_learns_its_power_from_zeros_too(precision):
    model = classifier.build(Model(name="tiny", pooling="gem", image_size=24), precision)
    power = model.get_layer("pool").power
    faces = np.zeros([2, 48, 48, 1], np.uint8)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(faces)))
    assert power.dtype == tf.float32
    assert np.isfinite(tape.gradient(loss, power).numpy())


def test_auxiliary_heads_give_logits_in_training_only_and_their_losses_count_less():
    inputs = tf.keras.Input([12, 12, 4])
    main = heads.classification_head(inputs, "avg", 0.0, class_maps=False, classes=7)
    model = heads.AuxiliaryClassifier(inputs, [main, *(heads.auxiliary_head(inputs, number, 7) for number in (1, 2))])
    features = np.random.default_rng(0).random((2, 12, 12, 4)).astype(np.float32)
    assert model(features).shape == (2, 7)
    with dropout.dropout_rng(BatchRng(tf.constant([0, 0]), tf.range(2), 2)):
        outputs = model(features, training=True)
    assert [output.shape for output in outputs] == [(2, 7)] * 3
    mean = [tf.reduce_mean(output, axis=1).numpy() for output in outputs]
    summed = heads.losses(outputs, lambda logits: tf.reduce_mean(logits, axis=1)).numpy()
    np.testing.assert_allclose(summed, mean[0] + 0.3 * (mean[1] + mean[2]), rtol=1e-5)
    np.testing.assert_array_equal(heads.main_logits(outputs), outputs[0])
