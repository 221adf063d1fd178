"""Checks the optimizers that `fer.config.Optimizer` describes."""

import importlib.util
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Experiment, Model, Optimizer, Train
from fer.models import classifier
from fer.train import train_state
from fer.train.optim import lr_schedules, optimizers, tfa_equivalents


def experiment(**settings) -> Experiment:
    return Experiment(optimizer=Optimizer(**settings), train=Train(precision="float32", ema_decay=0.0))


def make_optimizer(settings: Experiment, variables: list[tf.Variable]) -> optimizers.Optimizer:
    """Makes an optimizer whose schedule stays near its peak: the run has 10**9 steps."""
    return optimizers.make_optimizer(settings, lr_schedules.LRSchedule(settings, 10, 10**9), variables)


def update(optimizer: optimizers.Optimizer, gradients: list, variables: list[tf.Variable]) -> None:
    strategy = tf.distribute.get_strategy()
    strategy.run(lambda: optimizers.apply_gradients(optimizer, [tf.constant(each) for each in gradients], variables))


@pytest.mark.parametrize("name", ["sgd", "adamw", "radam_lookahead"])
def test_weight_decay_shrinks_kernels_but_not_biases_and_scales(name):
    settings = experiment(name=name, learning_rate=0.1, weight_decay=0.5, warmup_epochs=0.0)
    variables = [tf.Variable([1.0], name=f"layer/{part}") for part in ("kernel", "bias", "gamma", "beta")]
    update(make_optimizer(settings, variables), [[0.0]] * 4, variables)
    np.testing.assert_allclose([float(variable[0]) for variable in variables], [1 - 0.1 * 0.5, 1, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("compact_s", "gem"),
        pytest.param("mobilenet", "gem", marks=pytest.mark.extended),
        pytest.param("convnext_tiny", "avg", marks=pytest.mark.extended),
        pytest.param("googlenet_lrn", "gem", marks=pytest.mark.extended),
    ],
)
def test_weight_decay_applies_to_all_kernels_of_network_and_nothing_else(name, pooling):
    model = classifier.build(Model(name=name, image_size=32, pooling=pooling), "float32")
    excluded = {
        weight.name
        for weight in model.trainable_weights
        if any(re.search(pattern, weight.name) for pattern in optimizers.NO_DECAY)
    }
    assert excluded == {weight.name for weight in model.trainable_weights if weight.shape.rank < 2}


def test_sgd_uses_nesterov_momentum():
    weight = tf.Variable([0.0])
    optimizer = make_optimizer(experiment(learning_rate=0.1, weight_decay=0.0, warmup_epochs=0.0), [weight])
    velocity, by_hand = 0.0, 0.0
    for gradient in (1.0, -2.0, 0.5):
        update(optimizer, [[gradient]], [weight])
        velocity = 0.9 * velocity - 0.1 * gradient
        by_hand += 0.9 * velocity - 0.1 * gradient
    assert float(weight[0]) == pytest.approx(by_hand, rel=1e-5)


def test_grad_clip_norm_clips_the_global_gradient_norm():
    settings = experiment(learning_rate=1.0, momentum=0.0, weight_decay=0.0, warmup_epochs=0.0, grad_clip_norm=1.0)
    weights = [tf.Variable([0.0]), tf.Variable([0.0])]
    update(make_optimizer(settings, weights), [[3.0], [4.0]], weights)
    np.testing.assert_allclose([float(weight[0]) for weight in weights], [-0.6, -0.8], rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "radam_lookahead"])
def test_optimizers_receive_the_clipped_gradient(name):
    settings = {"name": name, "learning_rate": 0.1, "weight_decay": 0.0, "warmup_epochs": 0.0}
    results = []
    # Clipped by the optimizer, then clipped in advance.
    for clip_norm, gradients in ((1.0, (0.5, -4.0, 9.0, 2.0)), (0.0, (0.5, -1.0, 1.0, 1.0))):
        weight = tf.Variable([1.0], name="layer/kernel")
        optimizer = make_optimizer(experiment(**settings, grad_clip_norm=clip_norm), [weight])
        for gradient in gradients:
            update(optimizer, [[gradient]], [weight])
        results.append(float(weight[0]))
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_lamb_scales_the_update_by_the_weight_norm_of_the_layer():
    """You et al. 2020, algorithm 2. The first direction has elements of size 1; the trust ratio scales them."""
    settings = experiment(name="lamb", learning_rate=0.01, weight_decay=0.0, warmup_epochs=0.0)
    weight = tf.Variable([3.0, 4.0], name="layer/kernel")
    update(make_optimizer(settings, [weight]), [[1e3, -1e3]], [weight])
    step = 0.01 * 5 / np.sqrt(2)
    np.testing.assert_allclose(weight, [3 - step, 4 + step], rtol=1e-4)


def test_lookahead_averages_with_slow_weights_every_sixth_step():
    settings = experiment(name="radam_lookahead", learning_rate=0.1, weight_decay=0.0, warmup_epochs=0.0)
    weight = tf.Variable([0.0], name="layer/kernel")
    optimizer = make_optimizer(settings, [weight])
    reference, plain = tfa_equivalents.RectifiedAdam(0.1, 0.0, []), tf.Variable([0.0])
    values, expected = [], []
    for _ in range(6):
        update(optimizer, [[1.0]], [weight])
        reference.apply_gradients([(tf.constant([1.0]), plain)])
        values.append(float(weight[0]))
        expected.append(float(plain[0]))
    np.testing.assert_allclose(values, [*expected[:5], expected[5] / 2], rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "radam_lookahead"])
def test_learning_rate_reports_the_rate_of_the_last_step(name):
    settings = experiment(name=name, learning_rate=0.1, warmup_epochs=1.0)
    settings.model = Model(name="tiny", image_size=24)
    found = train_state.create_train_state(tf.distribute.OneDeviceStrategy("CPU:0"), settings, 10, 100)
    schedule = lr_schedules.LRSchedule(settings, 10, 100)
    variables = found.model.trainable_variables
    for number in range(3):
        update(found.optimizer, [tf.zeros_like(each) for each in variables], variables)
        assert found.learning_rate() == pytest.approx(float(schedule(number)))


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "radam_lookahead"])
def test_checkpoint_restores_the_full_optimizer_state(name, tmp_path):
    settings = experiment(name=name, learning_rate=0.1, warmup_epochs=0.0)
    results = []
    for resumed in (False, True):
        weight = tf.Variable([1.0, -2.0], name="layer/kernel")
        optimizer = make_optimizer(settings, [weight])
        saved = tf.train.Checkpoint(weight=weight, optimizer=optimizer)
        if resumed:
            saved.read(str(tmp_path / "state")).assert_consumed()
        for _ in range(0 if resumed else 4):
            update(optimizer, [[0.3, -0.1]], [weight])
        if not resumed:
            saved.write(str(tmp_path / "state"))
        for _ in range(4):
            update(optimizer, [[-0.2, 0.4]], [weight])
        results.append(weight.numpy())
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("name", ["lamb", "radam_lookahead"])
def test_make_optimizer_uses_addons_where_it_is_installed(name, monkeypatch):
    expected = "tensorflow_addons" if importlib.util.find_spec("tensorflow_addons") else "fer"
    assert type(make_optimizer(experiment(name=name), [tf.Variable([1.0])])).__module__.startswith(f"{expected}.")
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)  # makes the import fail
    assert type(make_optimizer(experiment(name=name), [tf.Variable([1.0])])).__module__.startswith("fer.")


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_make_optimizer_scales_losses_for_float16_only(precision):
    optimizer = make_optimizer(Experiment(train=Train(precision=precision)), [tf.Variable([1.0])])
    scaled = isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
