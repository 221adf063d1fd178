"""KerasCV backend, and both backends against each other where their definitions agree.

Importing KerasCV takes a second or more, so it is imported where a test uses it.
"""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from fer.augment import geometric, keras_cv_backend, mixup, policy, registry
from fer.errors import UserError
from fer.rng import BatchRng

COUNT = 64
RANDOM = np.random.default_rng(0)
FACES = np.kron(RANDOM.integers(0, 256, (COUNT, 12, 12, 1)), np.ones((1, 4, 4, 1))).astype(np.uint8)
TARGETS = np.eye(7, dtype=np.float32)[np.arange(COUNT) % 7]
RNG = BatchRng(tf.constant([1, 2]), tf.range(COUNT), COUNT)


@pytest.fixture(params=["float32", "mixed_float16"])
def precision(request):
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.fixture
def tfa():
    return pytest.importorskip("tensorflow_addons", reason="TensorFlow Addons runs on TensorFlow 2.15 alone")


def augment_with_keras_cv(text: str, faces=FACES, targets=TARGETS) -> tuple[tf.Tensor, tf.Tensor]:
    return policy.augmenter(text, backend="keras_cv")(faces, targets, RNG)


@pytest.mark.parametrize("name", keras_cv_backend.LAYERS)
def test_layers_take_the_arguments_of_the_op(name):
    assert list(inspect.signature(keras_cv_backend.LAYERS[name]).parameters) == list(registry.OPS[name].arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flip|erase(0.5)|mixup", "names erase, which the backend keras_cv lacks: it has flip, randaugment"),
        ("choose(mixup,cutmix)", "names choose"),
        ("randaugment(2,9,faces)", "names randaugment's preset faces"),
    ],
)
def test_parse_rejects_ops_that_keras_cv_lacks(text, message):
    with pytest.raises(UserError) as caught:
        policy.parse(text, backend="keras_cv")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "flip|mixup(0.2)|cutmix(1.0)",
        pytest.param("flip|randaugment(2,9)|mixup(0.2)|cutmix(1.0)", marks=pytest.mark.extended),
    ],
)
def test_augmenter_returns_uint8_images_and_float32_targets_under_every_precision(precision, text):
    images, targets = augment_with_keras_cv(text)
    assert (images.dtype, images.shape) == (tf.uint8, FACES.shape)
    assert (targets.dtype, targets.shape) == (tf.float32, TARGETS.shape)
    np.testing.assert_allclose(targets.numpy().sum(axis=1), 1, atol=1e-5)
    assert (images.numpy() != FACES).any()


def test_flip_mirrors_images_and_keeps_targets():
    images, targets = augment_with_keras_cv("flip(1.0)")
    np.testing.assert_array_equal(images, FACES[:, :, ::-1])
    np.testing.assert_array_equal(targets, TARGETS)


@pytest.mark.parametrize("backend", ["fused", "keras_cv"])
@pytest.mark.parametrize("text", ["mixup(0.5)", "cutmix(1.0)"])
def test_backends_mix_images_and_targets_in_one_proportion(backend, text):
    """White faces of one class among black ones of another: the grey level is the target."""
    white = np.arange(COUNT) < COUNT // 2
    faces = white[:, None, None, None] * np.full((1, 48, 48, 1), 255, np.uint8)
    classes = np.eye(7, dtype=np.float32)[white.astype(int)]
    images, targets = policy.augmenter(text, backend=backend)(faces, classes, RNG)
    levels, shares = images.numpy().mean(axis=(1, 2, 3)) / 255, targets.numpy()[:, 1]
    if (backend, text) == ("keras_cv", "cutmix(1.0)"):
        # KerasCV mixes the targets by the area of the unclipped rectangle.
        assert np.corrcoef(levels, shares)[0, 1] > 0.8
    else:
        np.testing.assert_allclose(levels, shares, atol=0.003)
    mixed = (shares > 0.05) & (shares < 0.95)
    assert mixed.mean() > 0.2
    assert ((levels > 0) & (levels < 1))[mixed].mean() > 0.9


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "posterize", "solarize"])
def test_photometric_ops_agree_with_keras_cv_within_one_grey_level(name):
    import keras_cv

    theirs = {
        "autocontrast": lambda: keras_cv.layers.AutoContrast(value_range=(0, 255)),
        "equalize": lambda: keras_cv.layers.Equalization(value_range=(0, 255)),
        "posterize": lambda: keras_cv.layers.Posterization(value_range=(0, 255), bits=4),
        "solarize": lambda: keras_cv.layers.Solarization(value_range=(0, 255), threshold_factor=(128, 128)),
    }[name]()
    ours, _ = policy.augmenter(f"{name}(p=1.0)")(FACES, TARGETS, RNG)
    expected = theirs(tf.image.grayscale_to_rgb(tf.cast(FACES, tf.float32)), training=True).numpy()[..., :1]
    assert np.abs(ours.numpy() - expected).max() <= 1


def test_affine_agrees_with_tensorflow_addons_within_one_grey_level(tfa):
    angles = tf.constant(RANDOM.uniform(-0.5, 0.5, COUNT), tf.float32)
    still = tf.zeros([COUNT])
    ours = geometric.warp(FACES, geometric.affine(angles, still + 1, still, still, still)).numpy()
    theirs = tfa.image.rotate(FACES.astype(np.float32), angles, interpolation="bilinear").numpy()
    assert np.abs(ours - theirs).max() <= 1


def test_blur_agrees_with_tensorflow_addons_within_one_grey_level(tfa):
    ours, _ = policy.augmenter("blur(p=1.0)")(FACES, TARGETS, RNG)
    theirs = tfa.image.sharpness(FACES, 0.0).numpy()
    assert np.abs(ours.numpy().astype(int) - theirs).max() <= 1


def test_mixup_agrees_with_keras_cvs_formula():
    import keras_cv

    share = tf.constant(RANDOM.random([COUNT, 1, 1, 1]), tf.float32)
    ours, targets = mixup.mix(FACES, TARGETS, share)
    layer = keras_cv.layers.MixUp(dtype="float32")
    theirs = layer._update_labels(TARGETS, share, tf.range(COUNT)[::-1])
    np.testing.assert_allclose(targets, theirs, atol=1e-6)
    expected = share * FACES.astype(np.float32) + (1 - share) * FACES[::-1].astype(np.float32)
    assert np.abs(ours.numpy() - expected.numpy()).max() <= 0.5 + 1e-3
