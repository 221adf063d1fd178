"""Layers for CPUs without AVX-512: equal to Keras' layers in training, and chosen only on such CPUs."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from fer import tf_workarounds
from fer.augment import xla_support
from fer.config import Model
from fer.data.example_codec import Faces
from fer.models import avx2_layers, classifier, precision
from fer.train import train_state
from fer.train.distributed.strategy import make_mirrored
from tests.train import factories

layers = tf.keras.layers
GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def avx2(monkeypatch):
    monkeypatch.setattr(precision, "is_limited_to_avx2", lambda: True)


def randoms(*shape: int, mean: float = 0.0, deviation: float = 1.0) -> np.ndarray:
    return GENERATOR.normal(mean, deviation, shape).astype(np.float32)


def pair(layer: layers.Layer, shape: tuple[int, ...]) -> list[tf.keras.Model]:
    """Returns two models of the layer with equal weights, the second accelerated."""
    models = [tf.keras.Sequential([tf.keras.Input(shape), type(layer).from_config(layer.get_config())]) for _ in "ab"]
    weights = [GENERATOR.uniform(0.5, 2, weight.shape).astype(np.float32) for weight in models[0].get_weights()]
    for model in models:
        model.set_weights(weights)
    avx2_layers.accelerate(models[1])
    assert type(models[0].layers[-1]) is type(layer)
    assert type(models[1].layers[-1]) is avx2_layers.FASTER[type(layer)]
    return models


def step(model: tf.keras.Model, x: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
    """Returns the output in training, the gradients of its weighted sum, and the weights afterwards."""

    @tf.function(autograph=False)
    def run(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = model(x, training=True)
            loss = tf.reduce_sum(output * weight)
        return [output, *tape.gradient(loss, [x, *model.trainable_variables])]

    return [*(each.numpy() for each in run(tf.constant(x))), *model.get_weights()]


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize(
    "settings", [{}, {"scale": False}, {"center": False}, {"momentum": 0.9, "epsilon": 0.1}], ids=str
)
def test_batch_normalization_trains_as_keras_layer(settings):
    keras, fast = pair(layers.BatchNormalization(**settings), (5, 4, 6))
    x, weight = randoms(8, 5, 4, 6, mean=3, deviation=2), randoms(8, 5, 4, 6)
    assert_close(step(fast, x, weight), step(keras, x, weight))


def test_batch_normalization_of_one_value_a_channel_trains_as_keras_layer():
    keras, fast = pair(layers.BatchNormalization(), (1, 1, 6))
    x, weight = randoms(1, 1, 1, 6), randoms(1, 1, 1, 6)
    assert_close(step(fast, x, weight), step(keras, x, weight))


def test_batch_normalization_is_precise_when_the_mean_is_large():
    """The mean of squares less the square of the mean would have no correct digit here."""
    _, fast = pair(layers.BatchNormalization(epsilon=1e-5), (6, 6, 4))
    x = randoms(16, 6, 6, 4, mean=1000, deviation=0.1)
    gamma, beta = (weight.astype(np.float64) for weight in fast.get_weights()[:2])
    exact = x.astype(np.float64)
    normalized = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(fast(x, training=True), normalized * gamma + beta, atol=0.02)


def test_accelerated_layers_infer_with_the_same_bits():
    for layer in (layers.BatchNormalization(), layers.DepthwiseConv2D(3, padding="same")):
        keras, fast = pair(layer, (2, 2, 6))
        x = randoms(8, 2, 2, 6)
        np.testing.assert_array_equal(fast(x, training=False), keras(x, training=False))


def test_frozen_batch_normalization_uses_and_keeps_the_moving_statistics():
    keras, fast = pair(layers.BatchNormalization(), (4, 4, 6))
    x, before = randoms(8, 4, 4, 6), fast.get_weights()
    for model in (keras, fast):
        model.trainable = False
    np.testing.assert_array_equal(fast(x, training=True), keras(x, training=True))
    for now, then in zip(fast.get_weights(), before):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("height", "width", "kernel", "stride"), [(1, 1, 3, 1), (2, 2, 5, 1), (3, 2, 5, 2), (2, 5, 3, 2)]
)
def test_depthwise_convolution_trains_as_keras_layer(height, width, kernel, stride):
    settings = {"strides": stride, "padding": "same", "activation": "relu6", "depth_multiplier": 2}
    keras, fast = pair(layers.DepthwiseConv2D(kernel, **settings), (height, width, 6))
    x = randoms(4, height, width, 6)
    weight = randoms(*keras(x).shape)
    assert_close(step(fast, x, weight), step(keras, x, weight))


@pytest.mark.parametrize("settings", [{"dilation_rate": 2}, {"dtype": "mixed_float16"}], ids=str)
def test_depthwise_convolution_of_another_kind_is_computed_by_keras(monkeypatch, settings):
    keras, fast = pair(layers.DepthwiseConv2D(3, padding="same", **settings), (2, 2, 6))
    x = randoms(4, 2, 2, 6)
    monkeypatch.setattr(avx2_layers, "same_padding", None)
    np.testing.assert_array_equal(fast(x, training=True), keras(x, training=True))


def test_same_padding_is_that_of_tensorflow():
    for side, kernel, stride in itertools.product(range(1, 8), (1, 2, 3, 5), (1, 2, 3)):
        x, filters = randoms(1, side, 1, 1), randoms(kernel, 1, 1, 1)
        padded = np.pad(x, [(0, 0), avx2_layers.same_padding(side, kernel, stride), (0, 0), (0, 0)])
        ours, theirs = (
            tf.nn.conv2d(image, filters, stride, padding) for image, padding in ((padded, "VALID"), (x, "SAME"))
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-6, err_msg=f"{side} {kernel} {stride}")


@pytest.mark.parametrize(
    "devices", [["CPU:0"], pytest.param(["CPU:0", "CPU:1"], marks=pytest.mark.extended)], ids=["one", "mirrored"]
)
def test_training_step_gives_the_weights_of_keras_layers(monkeypatch, devices):
    """With sharpness-aware minimization and accumulation, which call the layers twice a step and in a loop."""
    settings = factories.experiment(gradient_accumulation_steps=2)
    settings.model.sync_batch_norm = False
    settings.optimizer.sam_rho = 0.05
    images = GENERATOR.integers(0, 256, (64, 48, 48, 1), dtype=np.uint8)
    faces = Faces(images, np.arange(64, dtype=np.int32) % 7, np.arange(64), None)
    found = []
    for limited in (False, True):
        monkeypatch.setattr(precision, "is_limited_to_avx2", lambda limited=limited: limited)
        strategy = make_mirrored(devices) if len(devices) > 1 else tf.distribute.OneDeviceStrategy(devices[0])
        with tf_workarounds.release_custom_gradients():
            state = factories.train_steps(strategy, settings, faces, steps=2)
        found.append([weight.numpy() for weight in state.model.weights])
    assert_close(found[1], found[0])


def test_accelerated_steps_repeat_bit_for_bit():
    _, fast = pair(layers.BatchNormalization(), (12, 12, 64))
    x, weight, weights = randoms(64, 12, 12, 64), randoms(64, 12, 12, 64), fast.get_weights()
    first = step(fast, x, weight)
    for _ in range(3):
        fast.set_weights(weights)
        for now, then in zip(step(fast, x, weight), first, strict=True):
            np.testing.assert_array_equal(now, then)


def test_batch_normalization_in_float16_is_computed_by_keras(monkeypatch):
    _, fast = pair(layers.BatchNormalization(dtype="mixed_float16"), (4, 4, 6))
    monkeypatch.setattr(avx2_layers, "_normalize", None)
    assert fast(randoms(8, 4, 4, 6), training=True).dtype == tf.float16


def test_accelerate_reaches_layers_in_nested_models_and_keeps_weights():
    model = classifier.build(Model(name="mobilenet", image_size=48), "float32")
    names = [weight.name for weight in model.weights]
    avx2_layers.accelerate(model)
    kinds = {type(layer) for layer in classifier.get_backbone(model).layers}
    assert kinds >= set(avx2_layers.FASTER.values())
    assert not kinds & set(avx2_layers.FASTER)
    assert [weight.name for weight in model.weights] == names


@pytest.mark.parametrize(
    ("limited", "jit_compile", "gpu", "expected"),
    [
        (True, False, False, avx2_layers.Avx2BatchNormalization),
        (False, False, False, layers.BatchNormalization),
        (True, True, False, layers.BatchNormalization),
        (True, False, True, layers.BatchNormalization),
    ],
    ids=["avx2", "avx512", "xla", "gpu"],
)
def test_train_state_has_accelerated_layers_only_where_they_are_faster(
    monkeypatch, limited, jit_compile, gpu, expected
):
    monkeypatch.setattr(precision, "is_limited_to_avx2", lambda: limited)
    monkeypatch.setattr(xla_support, "on_cpu", lambda: not gpu)
    settings = factories.experiment(jit_compile=jit_compile, ema_decay=0.9)
    settings.model.sync_batch_norm = False
    found = train_state.create_train_state(tf.distribute.OneDeviceStrategy("CPU:0"), settings, 20, 100)
    normalizations = {type(layer) for layer in found.model.submodules if isinstance(layer, layers.BatchNormalization)}
    assert normalizations == {expected}
    averaged = {type(layer) for layer in found.average.submodules if isinstance(layer, layers.BatchNormalization)}
    assert averaged == {layers.BatchNormalization}
