"""The optimizer that a config describes."""

import importlib.util
import re
import sys

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Experiment, Model, Optimizer, Train
from fer.errors import UserError
from fer.models import classifier
from fer.train import train_state
from fer.train.optim import lr_schedules, optimizers

addons_alone = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_addons") is None, reason="TensorFlow Addons runs on TensorFlow 2.15 alone"
)
LAMB, LOOKAHEAD = (pytest.param(name, marks=addons_alone) for name in ("lamb", "radam_lookahead"))


def experiment(**settings) -> Experiment:
    return Experiment(optimizer=Optimizer(**settings), train=Train(precision="float32", ema_decay=0.0))


def made(settings: Experiment, variables: list[tf.Variable]) -> optimizers.Optimizer:
    """An optimizer in the first of very many steps at the highest rate."""
    return optimizers.make_optimizer(settings, lr_schedules.LRSchedule(settings, 10, 10**9), variables)


def update(chosen: optimizers.Optimizer, gradients: list, variables: list[tf.Variable]) -> None:
    strategy = tf.distribute.get_strategy()
    strategy.run(lambda: optimizers.apply_gradients(chosen, [tf.constant(each) for each in gradients], variables))


@pytest.mark.parametrize("name", ["sgd", "adamw", LOOKAHEAD])
def test_decay_shrinks_kernels_and_spares_biases_and_scales(name):
    settings = experiment(name=name, learning_rate=0.1, weight_decay=0.5, warmup_epochs=0.0)
    variables = [tf.Variable([1.0], name=f"layer/{part}") for part in ("kernel", "bias", "gamma", "beta")]
    update(made(settings, variables), [[0.0]] * 4, variables)
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
def test_of_a_network_all_kernels_decay_and_nothing_else(name, pooling):
    model = classifier.build(Model(name=name, image_size=32, pooling=pooling), "float32")
    spared = {
        weight.name
        for weight in model.trainable_weights
        if any(re.search(pattern, weight.name) for pattern in optimizers.NO_DECAY)
    }
    assert spared == {weight.name for weight in model.trainable_weights if weight.shape.rank < 2}


def test_sgd_is_nesterovs():
    weight = tf.Variable([0.0])
    chosen = made(experiment(learning_rate=0.1, weight_decay=0.0, warmup_epochs=0.0), [weight])
    velocity, by_hand = 0.0, 0.0
    for gradient in (1.0, -2.0, 0.5):
        update(chosen, [[gradient]], [weight])
        velocity = 0.9 * velocity - 0.1 * gradient
        by_hand += 0.9 * velocity - 0.1 * gradient
    assert float(weight[0]) == pytest.approx(by_hand, rel=1e-5)


def test_the_global_gradient_is_clipped():
    settings = experiment(learning_rate=1.0, momentum=0.0, weight_decay=0.0, warmup_epochs=0.0, clip_norm=1.0)
    weights = [tf.Variable([0.0]), tf.Variable([0.0])]
    update(made(settings, weights), [[3.0], [4.0]], weights)
    np.testing.assert_allclose([float(weight[0]) for weight in weights], [-0.6, -0.8], rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw", LAMB, LOOKAHEAD])
def test_every_optimizer_sees_the_clipped_gradient(name):
    settings = {"name": name, "learning_rate": 0.1, "weight_decay": 0.0, "warmup_epochs": 0.0}
    ends = []
    for clip_norm, gradients in ((1.0, (0.5, -4.0, 9.0, 2.0)), (0.0, (0.5, -1.0, 1.0, 1.0))):  # clipped by us, by hand
        weight = tf.Variable([1.0], name="layer/kernel")
        chosen = made(experiment(**settings, clip_norm=clip_norm), [weight])
        for gradient in gradients:
            update(chosen, [[gradient]], [weight])
        ends.append(float(weight[0]))
    assert ends[0] == pytest.approx(ends[1], rel=1e-5)


@addons_alone
def test_lamb_moves_a_layer_by_the_rate_times_the_norm_of_its_weights():
    """You et al. 2020, algorithm 2: the first direction has elements of size 1, which the trust ratio scales."""
    settings = experiment(name="lamb", learning_rate=0.01, weight_decay=0.0, warmup_epochs=0.0)
    weight = tf.Variable([3.0, 4.0], name="layer/kernel")
    update(made(settings, [weight]), [[1e3, -1e3]], [weight])
    step = 0.01 * 5 / np.sqrt(2)
    np.testing.assert_allclose(weight, [3 - step, 4 + step], rtol=1e-4)


@addons_alone
def test_lookahead_goes_half_way_back_every_sixth_step():
    import tensorflow_addons as tfa

    settings = experiment(name="radam_lookahead", learning_rate=0.1, weight_decay=0.0, warmup_epochs=0.0)
    weight = tf.Variable([0.0], name="layer/kernel")
    chosen = made(settings, [weight])
    alone, plain = tfa.optimizers.RectifiedAdam(learning_rate=0.1), tf.Variable([0.0])
    path, expected = [], []
    for _ in range(6):
        update(chosen, [[1.0]], [weight])
        alone.apply_gradients([(tf.constant([1.0]), plain)])
        path.append(float(weight[0]))
        expected.append(float(plain[0]))
    np.testing.assert_allclose(path, [*expected[:5], expected[5] / 2], rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw", LAMB, LOOKAHEAD])
def test_the_rate_that_is_told_is_that_of_the_last_step(name):
    settings = experiment(name=name, learning_rate=0.1, warmup_epochs=1.0)
    settings.model = Model(name="tiny", image_size=24)
    found = train_state.create_train_state(tf.distribute.OneDeviceStrategy("CPU:0"), settings, 10, 100)
    schedule = lr_schedules.LRSchedule(settings, 10, 100)
    variables = found.model.trainable_variables
    for number in range(3):
        update(found.optimizer, [tf.zeros_like(each) for each in variables], variables)
        assert found.learning_rate() == pytest.approx(float(schedule(number)))


@pytest.mark.parametrize("name", ["sgd", "adamw", LAMB, LOOKAHEAD])
def test_a_checkpoint_holds_all_of_an_optimizer(name, tmp_path):
    settings = experiment(name=name, learning_rate=0.1, warmup_epochs=0.0)
    ends = []
    for resumed in (False, True):
        weight = tf.Variable([1.0, -2.0], name="layer/kernel")
        chosen = made(settings, [weight])
        saved = tf.train.Checkpoint(weight=weight, optimizer=chosen)
        if resumed:
            saved.read(str(tmp_path / "state")).assert_consumed()
        for _ in range(0 if resumed else 4):
            update(chosen, [[0.3, -0.1]], [weight])
        if not resumed:
            saved.write(str(tmp_path / "state"))
        for _ in range(4):
            update(chosen, [[-0.2, 0.4]], [weight])
        ends.append(weight.numpy())
    np.testing.assert_array_equal(ends[0], ends[1])


@pytest.mark.parametrize("name", ["lamb", "radam_lookahead"])
def test_without_addons_one_sentence_says_where_they_run(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"TensorFlow 2\.15 .*; choose sgd or adamw\.$"):
        made(experiment(name=name), [tf.Variable([1.0])])


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_losses_are_scaled_for_float16_alone(precision):
    chosen = made(Experiment(train=Train(precision=precision)), [tf.Variable([1.0])])
    scaled = isinstance(chosen, tf.keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
