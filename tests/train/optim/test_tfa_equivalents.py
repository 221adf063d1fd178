"""Checks LAMB and rectified Adam with Lookahead of our own against the papers and against TensorFlow Addons."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fer import tf_workarounds
from fer.train.distributed.strategy import make_mirrored
from fer.train.optim import optimizers, packed, tfa, tfa_equivalents
from tests.marks import needs_addons

SETTINGS = [
    (0.0, 0.0, False),
    (0.1, 0.0, False),
    (0.0, 1.0, False),
    (0.1, 1.0, True),
]  # decay, clip, tf.function
NAMES = ("lamb", "radam_lookahead")
SHAPES = {"layer/kernel": (4, 3), "layer/bias": (3,), "norm/gamma": (3,), "head/kernel": (3, 2)}
STEPS = 13  # Lookahead synchronizes twice; rectified Adam is rectified from the sixth step
RANDOM = np.random.default_rng(0)
INITIAL = [RANDOM.uniform(0.5, 1.5, shape).astype(np.float32) for shape in SHAPES.values()]
# The norm of all gradients of a step ranges from 0.16 to 49.
GRADIENTS = [
    [(scale * RANDOM.normal(size=shape)).astype(np.float32) for shape in SHAPES.values()]
    for scale in 10 ** RANDOM.uniform(-2, 1, STEPS)
]


class Schedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.01 / (1 + 0.1 * tf.cast(step, tf.float32))


class Training:
    """Training with recorded gradients: weights, optimizer and their checkpoint."""

    def __init__(self, backend, name, decay=0.1, clip=1.0, compiled=False, strategy=None, scaled=False):
        self.strategy = strategy or tf.distribute.get_strategy()
        with self.strategy.scope():
            self.weights = [tf.Variable(value, name=name) for name, value in zip(SHAPES, INITIAL)]
            optimizer = getattr(backend, f"make_{name}")(Schedule(), decay, optimizers.NO_DECAY, clip)
            self.optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer) if scaled else optimizer
            tf_workarounds.create_optimizer_variables(self.optimizer, self.weights)
        self.update = tf.function(self._update, autograph=False) if compiled else self._update
        self.checkpoint = tf.train.Checkpoint(weights=self.weights, optimizer=self.optimizer)

    def _update(self, gradients):
        gradients = [optimizers.scale_loss(self.optimizer, each) for each in gradients]
        gradients = optimizers.unscale_grads(self.optimizer, gradients)
        self.strategy.run(lambda: optimizers.apply_gradients(self.optimizer, gradients, self.weights))

    def step(self, gradients):
        """Makes a step; returns the weights after it on each replica, float32 [R, N]."""
        self.update([tf.constant(each) for each in gradients])
        replicas = zip(*map(self.strategy.experimental_local_results, self.weights))
        return np.stack([np.concatenate([each.numpy().ravel() for each in replica]) for replica in replicas])

    def run(self):
        """Makes all steps; returns the weights after each, float32 [S, R, N]."""
        return np.stack([self.step(gradients) for gradients in GRADIENTS])


def reference_directions(name, weights, moments, number, decay):
    """Yields the update of each variable, float64, before the learning rate: You et al. 2020 and Liu et al. 2020."""
    for index, (variable, (mean, square)) in enumerate(zip(weights, moments)):
        mean, square = mean / (1 - 0.9**number), square / (1 - 0.999**number)
        decayed = decay * variable if "kernel" in list(SHAPES)[index] else 0.0
        if name == "lamb":
            update = mean / (np.sqrt(square) + 1e-6) + decayed
            is_adapted = "kernel" in list(SHAPES)[index]
            yield update * (np.linalg.norm(variable) / np.linalg.norm(update) if is_adapted else 1.0)
            continue
        longest = 2 / (1 - 0.999) - 1
        length = longest - 2 * number * 0.999**number / (1 - 0.999**number)
        if length < 5:
            yield mean + decayed
        else:
            factor = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            yield np.sqrt(factor) * mean / (np.sqrt(square) + 1e-7) + decayed


def reference(name, decay, clip):
    """Computes the weights after each step in float64, from the papers' algorithms."""
    weights = [value.astype(np.float64) for value in INITIAL]
    slow, moments, values = list(weights), [(0.0, 0.0)] * len(weights), []
    for number, gradients in enumerate(GRADIENTS, 1):
        norm = np.sqrt(sum((each.astype(np.float64) ** 2).sum() for each in gradients))
        gradients = [each * (min(1.0, clip / norm) if clip else 1.0) for each in gradients]
        moments = [(0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2) for (m, v), g in zip(moments, gradients)]
        rate = 0.01 / (1 + 0.1 * (number - 1))
        updates = reference_directions(name, weights, moments, number, decay)
        weights = [value - rate * update for value, update in zip(weights, updates)]
        if name == "radam_lookahead" and number % 6 == 0:
            slow = weights = [old + 0.5 * (new - old) for old, new in zip(slow, weights)]
        values.append(np.concatenate([value.ravel() for value in weights]))
    return np.stack(values)


@functools.cache
def run_equivalents(name, decay, clip, compiled):
    """Returns the weights after each step of `fer.train.optim.tfa_equivalents`, which two tests compare."""
    return Training(tfa_equivalents, name, decay, clip, compiled).run()


@pytest.mark.parametrize(("decay", "clip", "compiled"), SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_optimizer_equals_reference(name, decay, clip, compiled):
    found = run_equivalents(name, decay, clip, compiled)
    np.testing.assert_allclose(found[:, 0], reference(name, decay, clip), rtol=2e-6)


@needs_addons
@pytest.mark.parametrize(("decay", "clip", "compiled"), SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_optimizer_equals_addons(name, decay, clip, compiled):
    found, expected = run_equivalents(name, decay, clip, compiled), Training(tfa, name, decay, clip, compiled).run()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("backend", [tfa_equivalents, packed])
@pytest.mark.parametrize("name", NAMES)
def test_optimizer_updates_both_replicas_equally(name, backend):
    found = Training(backend, name, strategy=make_mirrored(["CPU:0", "CPU:1"])).run()
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    np.testing.assert_allclose(found[:, 0], reference(name, 0.1, 1.0), rtol=2e-6)


@pytest.mark.parametrize("backend", [tfa_equivalents, packed])
@pytest.mark.parametrize("name", NAMES)
def test_optimizer_skips_overflowed_gradients_under_loss_scaling(name, backend):
    training = Training(backend, name, compiled=True, scaled=True)
    found = training.run()
    np.testing.assert_allclose(found[:, 0], reference(name, 0.1, 1.0), rtol=2e-6)
    overflowed = training.step([np.full(shape, np.inf, np.float32) for shape in SHAPES.values()])
    np.testing.assert_array_equal(overflowed, found[-1])


@needs_addons
@pytest.mark.parametrize("decay", [pytest.param(0.0, marks=pytest.mark.extended), 0.1])
@pytest.mark.parametrize(("saving", "resuming"), [(tfa, tfa_equivalents), (tfa_equivalents, tfa), (tfa, packed)])
@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_resumes_with_the_other_implementation(name, saving, resuming, decay, tmp_path):
    uninterrupted, resumed = (Training(each, name, decay) for each in (saving, resuming))
    for gradients in GRADIENTS[:8]:
        uninterrupted.step(gradients)
    status = resumed.checkpoint.read(uninterrupted.checkpoint.write(str(tmp_path / "state")))
    status.assert_consumed().assert_existing_objects_matched()
    for gradients in GRADIENTS[8:]:
        np.testing.assert_allclose(resumed.step(gradients), uninterrupted.step(gradients), rtol=1e-6)
