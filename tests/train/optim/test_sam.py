"""Checks sharpness-aware minimisation against its formula."""

import numpy as np
import pytest
import tensorflow as tf

from fer.train.distributed.strategy import make_mirrored
from fer.train.optim import sam


@pytest.mark.parametrize("devices", [["CPU:0"], ["CPU:0", "CPU:1"]])
def test_sam_perturbation_moves_weights_along_gradient_and_restores_them(devices):
    strategy = make_mirrored(devices)
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=[2]), tf.keras.layers.BatchNormalization()])
    trained = model.trainable_variables[:1]
    before = [weight.numpy() for weight in model.variables]

    @tf.function
    def perturb():
        gradients = strategy.run(lambda: [tf.constant([[3.0, 0.0], [0.0, 4.0]])])
        with sam.sam_perturbation(strategy, model, trained, gradients, 0.5):
            perturbed = tf.identity(trained[0])
            strategy.extended.update(model.variables[-1], lambda weight: weight.assign_add([7.0, 7.0]))
        return perturbed

    perturbed = perturb().numpy()
    np.testing.assert_allclose(perturbed, before[0] + 0.5 * np.array([[3, 0], [0, 4]]) / 5, rtol=1e-6, atol=1e-7)
    for weight, value in zip(model.variables, before):
        for copy in strategy.experimental_local_results(weight):
            np.testing.assert_array_equal(copy.numpy(), value, err_msg=weight.name)


@pytest.mark.parametrize("gradient", [0.0, np.inf, np.nan])
def test_sam_perturbation_leaves_weights_when_gradient_has_no_direction(gradient):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False, input_shape=[1])])
    before = model.variables[0].numpy()
    gradients = strategy.run(lambda: [tf.constant([[gradient]], tf.float32)])
    with sam.sam_perturbation(strategy, model, model.trainable_variables, gradients, 0.5):
        np.testing.assert_array_equal(model.variables[0].numpy(), before)
