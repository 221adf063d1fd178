"""Properties of every classifier, whatever its backbone."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.models import classifier, dropout, precision, registry
from fer.rng import BatchRng
from tests.marks import HALF_PRECISIONS, needs_bfloat16, needs_float16

layers = tf.keras.layers

FACES = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
TINY = Model(name="tiny", image_size=24)
LARGER = {"compact": 24, "efficientnet_b0": 32, "inception_v3": 75}  # name -> the smallest side in pixels
LARGERS_PRECISION = (
    "mixed_bfloat16" if precision.is_computable("mixed_bfloat16") else "float32"
)  # float16 takes minutes on a CPU
SMALL = {"tiny": 24, **LARGER}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("tiny", "mixed_float16"), marks=needs_float16),
        pytest.param(("tiny", "mixed_bfloat16"), marks=needs_bfloat16),
        *(pytest.param((name, LARGERS_PRECISION), marks=pytest.mark.extended) for name in LARGER),
    ],
    ids=" ".join,
)
def model(request) -> tf.keras.Model:
    name, compute_dtype = request.param
    return classifier.build(Model(name=name, image_size=SMALL[name]), compute_dtype)


def test_uint8_faces_become_seven_float32_logits(model):
    logits = model(FACES)
    assert model.input.dtype == tf.uint8
    assert logits.dtype == tf.float32
    assert logits.shape == (4, 7)
    assert {weight.dtype for weight in model.weights} <= {tf.float32, tf.int64}  # int64: a count


def test_logits_of_a_sample_do_not_depend_on_its_batch(model):
    others = FACES.copy()
    others[1:] = 255 - others[1:]
    np.testing.assert_array_equal(model(FACES)[0], model(others)[0])


def test_different_faces_have_different_logits(model):
    assert (np.diff(model(FACES).numpy(), axis=0) != 0).all(axis=1).all()


def test_dropout_in_training_follows_from_the_seed_alone(model):
    def logits(seed: int) -> np.ndarray:
        with dropout.dropout_rng(BatchRng(tf.constant([seed, 0]), tf.range(4), 4)):
            return model(FACES, training=True).numpy()

    np.testing.assert_array_equal(logits(1), logits(1))
    assert (logits(1) != logits(2)).any()


@pytest.mark.parametrize("precision", ["float32", *HALF_PRECISIONS])
def test_logits_are_float32_and_weights_are_too(precision):
    model = classifier.build(TINY, precision)
    assert model(FACES).dtype == tf.float32
    assert {weight.dtype for weight in model.weights} == {tf.float32}
    hidden = {layer.compute_dtype for layer in model.get_layer("tiny").layers if layer.weights}
    assert hidden == {precision.replace("mixed_", "")}


def test_build_leaves_global_precision_unchanged():
    classifier.build(TINY, "mixed_bfloat16")
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_initial_weights_are_a_function_of_the_seed():
    one, same, other = (classifier.build(TINY, "float32", seed) for seed in (1, 1, 2))
    for weight, again in zip(one.get_weights(), same.get_weights()):
        np.testing.assert_array_equal(weight, again)
    assert any((weight != another).any() for weight, another in zip(one.get_weights(), other.get_weights()))


def test_classifier_resizes_as_tf_image_resize():
    model = classifier.build(Model(name="tiny", image_size=64), "float32")
    resized = tf.keras.Model(model.input, model.get_layer("pixels").output)(FACES)
    pixels = (FACES.astype(np.float32) - 129.5) / 65
    np.testing.assert_allclose(resized, tf.image.resize(pixels, [64, 64]), atol=1e-5)


def test_compact_has_about_two_million_parameters():
    assert 1.8e6 < classifier.build(Model(), "float32").count_params() < 2.2e6


def test_sync_batch_norm_synchronizes_all_batch_norm_layers():
    def synchronized_layers(model: tf.keras.Model) -> set:
        layers = model.get_layer("tiny").layers
        return {layer.synchronized for layer in layers if "bn" in layer.name}

    assert synchronized_layers(classifier.build(TINY, "float32")) == {False}
    assert synchronized_layers(classifier.build(dataclasses.replace(TINY, sync_batch_norm=True), "float32")) == {True}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Model(name="inception_v4"), "no model 'inception_v4'; the nearest is inception_v3"),
        (Model(name="inception_v3", image_size=48), "inception_v3 needs 75 or more"),
        (Model(name="keras_cv/efficientnetv2_x"), "the nearest is keras_cv/efficientnetv2_"),
        (
            Model(name="tiny", truncate_at="quartr"),
            "truncate_at names no block of tiny: 'quartr'; the nearest is quarter",
        ),
        (Model(name="compact", aux_logits=True), "aux_logits is on; compact has none"),
        (
            Model(name="mini_xception", pooling="gem"),
            "pooling is gem, .* mini_xception pools logits",
        ),
        pytest.param(
            Model(name="convnext_tiny", image_size=32, pooling="gem"),
            "pooling is gem, .* convnext_tiny ends with .*norm",
            marks=pytest.mark.extended,
        ),
        pytest.param(
            Model(name="convnext_tiny", image_size=32, truncate_at="block3", pooling="gem"),
            "pooling is gem, .* convnext_tiny cut after block3 ends with .*, which may be negative",
            marks=pytest.mark.extended,
        ),
        pytest.param(
            Model(name="mobilenet_v2", image_size=32, truncate_at="block_12", pooling="gem"),
            "pooling is gem, .* mobilenet_v2 cut after block_12 ends with block_12_add, which may be negative",
            marks=pytest.mark.extended,
        ),
    ],
    ids=[
        "unknown",
        "too small",
        "unknown preset",
        "unknown block",
        "no auxiliary heads",
        "a power of logits",
        "a norm",
        "a sum without a layer",
        "a sum",
    ],
)
def test_build_error_names_model_that_cannot_be_built(model, message):
    with pytest.raises(UserError, match=message):
        classifier.build(model, "float32")


def linear(x: tf.Tensor) -> tf.Tensor:
    return layers.Conv2D(4, 1)(x)


def relu(x: tf.Tensor) -> tf.Tensor:
    return layers.ReLU()(linear(x))


@pytest.mark.parametrize(
    ("ends", "accepted"),
    [
        (relu, True),
        (lambda x: layers.Conv2D(4, 1, activation="relu")(x), True),
        (lambda x: layers.Multiply()([linear(x), relu(x)]), True),
        (lambda x: layers.MaxPooling2D()(relu(x)), True),
        (lambda x: layers.Concatenate()([relu(x), layers.AveragePooling2D(1)(relu(x))]), True),
        (linear, False),
        (lambda x: layers.BatchNormalization()(relu(x)), False),
        (lambda x: layers.Add()([relu(x), linear(x)]), False),
        (lambda x: layers.MaxPooling2D()(linear(x)), False),
        (lambda x: layers.Concatenate()([relu(x), linear(x)]), False),
    ],
    ids=[
        "an activation",
        "within the layer",
        "a product",
        "pooled",
        "parts",
        "a convolution",
        "a norm",
        "a sum",
        "a convolution, pooled",
        "parts with one that is not",
    ],
)
def test_build_rejects_gem_pooling_unless_features_come_from_an_activation(ends, accepted, monkeypatch):
    def build(side: int, channels: int) -> tf.keras.Model:
        inputs = tf.keras.Input([side, side, channels])
        return tf.keras.Model(inputs, ends(inputs), name="made_here")

    monkeypatch.setitem(registry.BACKBONES, "tiny", dataclasses.replace(registry.BACKBONES["tiny"], build=build))
    gem = dataclasses.replace(TINY, pooling="gem")
    if accepted:
        assert classifier.build(gem, "float32").output_shape == (None, 7)
    else:
        with pytest.raises(UserError, match=r"pooling is gem, .* tiny ends with .*, which may be negative"):
            classifier.build(gem, "float32")


@pytest.mark.extended
@pytest.mark.parametrize(
    "model",
    [
        Model(name="vgg16", image_size=32, pooling="gem"),
        Model(name="mobilenet_v3_small", image_size=32, pooling="gem"),
        Model(name="inception_v3", image_size=75, truncate_at="mixed3", pooling="gem"),
    ],
    ids=["within the layer, then pooled", "a product", "parts"],
)
def test_build_accepts_gem_pooling_of_activations(model):
    assert classifier.build(model, "float32").output_shape == (None, 7)
