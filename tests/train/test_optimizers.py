"""The optimizer that a config describes."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Experiment, Optimizer, Train
from fer.train import optimizers


def experiment(**settings) -> Experiment:
    return Experiment(optimizer=Optimizer(**settings))


def test_the_rate_rises_in_a_straight_line_then_falls_half_a_cosine_to_zero():
    rate = optimizers.learning_rate(experiment(learning_rate=0.4, warmup_epochs=2.0), steps_per_epoch=5, total_steps=50)
    assert float(rate(0)) == 0
    assert float(rate(5)) == pytest.approx(0.2)
    assert float(rate(10)) == pytest.approx(0.4)
    for step in (20, 30, 47):
        expected = 0.4 * 0.5 * (1 + np.cos(np.pi * (step - 10) / 40))
        assert float(rate(step)) == pytest.approx(expected, abs=1e-6)
    assert float(rate(50)) == pytest.approx(0, abs=1e-8)


def test_without_warm_up_it_starts_at_the_top():
    rate = optimizers.learning_rate(experiment(learning_rate=0.4, warmup_epochs=0.0), 5, 50)
    assert float(rate(0)) == pytest.approx(0.4)


def test_a_warm_up_longer_than_the_run_leaves_a_step_to_fall():
    rate = optimizers.learning_rate(experiment(warmup_epochs=5.0), steps_per_epoch=100, total_steps=3)
    assert np.isfinite([float(rate(step)) for step in range(4)]).all()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_decay_shrinks_kernels_and_spares_biases_and_scales(name):
    settings = experiment(name=name, learning_rate=0.1, weight_decay=0.5, warmup_epochs=0.0)
    chosen = optimizers.optimizer(settings, 10, 1000)
    variables = [tf.Variable([1.0], name=f"layer/{part}") for part in ("kernel", "bias", "gamma", "beta")]
    chosen.build(variables)
    chosen.apply_gradients((tf.zeros([1]), variable) for variable in variables)
    np.testing.assert_allclose([float(variable[0]) for variable in variables], [1 - 0.1 * 0.5, 1, 1, 1], rtol=1e-6)


def test_sgd_is_nesterovs():
    chosen = optimizers.optimizer(experiment(learning_rate=0.1, weight_decay=0.0, warmup_epochs=0.0), 10, 10**9)
    weight = tf.Variable([0.0])
    chosen.build([weight])
    velocity, by_hand = 0.0, 0.0
    for gradient in (1.0, -2.0, 0.5):
        chosen.apply_gradients([(tf.constant([gradient]), weight)])
        velocity = 0.9 * velocity - 0.1 * gradient
        by_hand += 0.9 * velocity - 0.1 * gradient
    assert float(weight[0]) == pytest.approx(by_hand, rel=1e-5)


def test_the_global_gradient_is_clipped():
    settings = experiment(learning_rate=1.0, momentum=0.0, weight_decay=0.0, warmup_epochs=0.0, clip_norm=1.0)
    chosen = optimizers.optimizer(settings, 10, 10**9)
    weights = [tf.Variable([0.0]), tf.Variable([0.0])]
    chosen.build(weights)
    chosen.apply_gradients(zip([tf.constant([3.0]), tf.constant([4.0])], weights))
    np.testing.assert_allclose([float(weight[0]) for weight in weights], [-0.6, -0.8], rtol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_losses_are_scaled_for_float16_alone(precision):
    chosen = optimizers.optimizer(Experiment(train=Train(precision=precision)), 10, 100)
    scaled = isinstance(chosen, tf.keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
