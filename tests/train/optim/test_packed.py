"""Tests of fer/train/optim/packed.py."""

import numpy as np
import pytest
import tensorflow as tf

from fer.augment.xla_support import as_on_gpu
from fer.config import Experiment, Optimizer, Train
from fer.train.optim import lr_schedules, optimizers, packed

SHAPES = {"layer/kernel": [3, 4], "layer/bias": [4], "norm/gamma": [4], "head/kernel": [4, 2]}


def train(name: str, on_gpu: bool, steps: int = 7, **settings) -> tuple[optimizers.Optimizer, list[np.ndarray]]:
    """Returns an optimizer after some steps, and its variables and those that it trained."""
    rng = np.random.default_rng(0)
    experiment = Experiment(optimizer=Optimizer(name=name, learning_rate=0.1, weight_decay=0.05, **settings))
    variables = [tf.Variable(rng.normal(size=shape).astype("f"), name=name) for name, shape in SHAPES.items()]
    schedule = lr_schedules.LRSchedule(experiment, 2, 10)
    if on_gpu:
        with as_on_gpu():
            optimizer = optimizers.make_optimizer(experiment, schedule, variables)
    else:
        optimizer = optimizers.make_optimizer(experiment, schedule, variables)
    strategy = tf.distribute.get_strategy()
    trained = variables[1:]  # the first is frozen

    @tf.function(autograph=False)
    def step(gradients):
        strategy.run(lambda: optimizers.apply_gradients(optimizer, gradients, trained))

    for _ in range(steps):
        step([tf.constant(rng.normal(size=each.shape).astype("f")) for each in trained])
    slots = optimizer.variables() if callable(optimizer.variables) else optimizer.variables
    return optimizer, [each.numpy() for each in (*variables, *sorted(slots, key=lambda slot: slot.name))]


@pytest.mark.parametrize("clip_norm", [pytest.param(0.0, marks=pytest.mark.extended), 0.5])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", packed.SGD),
        ("adamw", packed.AdamW),
        ("lamb", packed.Lamb),  # compared with TensorFlow Addons or, without it, with `tfa_equivalents`
        ("radam_lookahead", packed.Lookahead),
    ],
)
def test_packed_optimizers_equal_those_of_single_variables(monkeypatch, name, kind, clip_norm):
    monkeypatch.setattr(packed, "ROW", 5)  # the head's kernel has two rows, with padding
    optimizer, found = train(name, on_gpu=True, grad_clip_norm=clip_norm)
    keras, expected = train(name, on_gpu=False, grad_clip_norm=clip_norm)
    assert isinstance(optimizer, kind)
    assert not isinstance(keras, kind)
    assert len(found) == len(expected)
    for own, other in zip(found, expected):
        np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-7)


def test_packed_optimizer_restores_a_checkpoint_of_keras(tmp_path):
    keras, _ = train("adamw", on_gpu=False)
    path = tf.train.Checkpoint(optimizer=keras).write(str(tmp_path / "state"))
    optimizer, _ = train("adamw", on_gpu=True, steps=1)
    tf.train.Checkpoint(optimizer=optimizer).read(path).assert_consumed()
    assert len(optimizer.variables) == len(keras.variables) > len(SHAPES)
    for own, other in zip(optimizer.variables, keras.variables):
        np.testing.assert_array_equal(own, other)


def test_packed_optimizer_skips_gradients_that_overflow():
    settings = Experiment(optimizer=Optimizer(warmup_epochs=0.0), train=Train(precision="mixed_float16"))
    weight = tf.Variable([1.0, 2.0], name="kernel")
    with as_on_gpu():
        optimizer = optimizers.make_optimizer(settings, lr_schedules.LRSchedule(settings, 2, 10), [weight])
    strategy = tf.distribute.get_strategy()
    for gradient in ([1.0, float("inf")], [1.0, 1.0]):
        before = weight.numpy()
        strategy.run(lambda: optimizers.apply_gradients(optimizer, [tf.constant(gradient)], [weight]))  # noqa: B023
        assert (weight.numpy() == before).all() == np.isinf(gradient).any()
    assert isinstance(optimizer.inner_optimizer, packed.SGD)
