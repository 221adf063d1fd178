"""Dropout as a function of (seed, position)."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.models import classifier
from fer.models.dropout import PositionalDropout, dropout_rng
from fer.rng import BatchRng
from fer.train.distributed.strategy import make_mirrored

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


@pytest.mark.parametrize("noise_shape", [None, (None, 1)])
def test_dropout_outside_of_trainer_draws_anew_at_each_call_and_repeats_by_seed(noise_shape):
    def draw() -> list[np.ndarray]:
        tf.keras.utils.set_random_seed(3)
        function = tf.function(PositionalDropout(0.5, salt=1, noise_shape=noise_shape))
        return [function(ONES, training=True).numpy() for _ in range(2)]

    first, second = draw()
    assert (first != second).any()
    assert set(np.unique(first)) == {np.float32(0), np.float32(2)}
    np.testing.assert_array_equal([first, second], draw())


def fit_two_steps(strategy: tf.distribute.Strategy) -> list[np.ndarray]:
    """Returns the weights after two steps of Keras' own training, from the seed 5."""
    tf.keras.utils.set_random_seed(5)
    with strategy.scope():
        model = classifier.build(Model(name="tiny", image_size=24, dropout=0.5), "float32", seed=1)
        model.compile(tf.keras.optimizers.AdamW(1e-3), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    faces = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 1), dtype=np.uint8)
    history = model.fit(faces, np.arange(8) % 7, batch_size=4, epochs=1, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = model.get_weights()
    assert any((old != new).any() for old, new in zip(before, after))
    return after


def test_model_with_dropout_is_trained_by_keras_fit():
    first, second = (fit_two_steps(tf.distribute.get_strategy()) for _ in range(2))
    for ours, theirs in zip(first, second):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_model_with_dropout_is_trained_by_keras_fit_on_two_replicas():
    fit_two_steps(make_mirrored(["CPU:0", "CPU:1"]))
