"""Tests of `fer.viz.gradcam`."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.labels import CLASSES
from fer.models import classifier
from fer.models.registry import BACKBONES
from fer.viz import gradcam, rendering
from tests.evaluation import factories
from tests.marks import HALF_PRECISIONS


@pytest.fixture(scope="module")
def model() -> tf.keras.Model:
    return classifier.build(Model(name="tiny"), "float32", seed=3)


def test_heatmaps_equal_class_activation_maps_when_mean_and_dense_layer_follow(model):
    """Grad-CAM's weights are then those of the dense layer, up to a factor (Selvaraju et al. 2017, section 3.1)."""
    images, classes = factories.images(4), np.array([0, 3, 6, 3])
    backbone = next(layer for layer in model.layers if isinstance(layer, tf.keras.Model))
    features = backbone(model.get_layer("pixels")(tf.constant(images)), training=False)
    kernel = model.get_layer("logits").kernel.numpy()[:, classes]
    expected = np.maximum(np.einsum("bhwc,cb->bhw", features.numpy(), kernel), 0)
    expected = tf.image.resize(expected[..., None], (48, 48), method="bilinear").numpy()[..., 0]
    expected /= expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(gradcam.heatmaps(model, images, classes), expected, atol=1e-4)


def test_heatmaps_mark_only_pixels_that_raise_the_class_logit():
    """Uses a network of one 1x1 convolution whose logit of class 5 grows with the brightness of a pixel."""
    inputs = tf.keras.Input([None, None, 3])
    convolution = tf.keras.layers.Conv2D(2, 1, kernel_initializer="ones")
    network = tf.keras.Model(inputs, convolution(inputs))
    faces = tf.keras.Input([48, 48, 1], dtype="uint8")
    pixels = tf.keras.layers.Concatenate()([tf.cast(faces, tf.float32)] * 3)
    pooled = tf.keras.layers.GlobalAveragePooling2D()(network(pixels))
    kernel = np.zeros((2, 7), np.float32)
    kernel[:, 5], kernel[:, 2] = 1, -1
    model = tf.keras.Model(faces, tf.keras.layers.Dense(7, kernel_initializer=tf.constant_initializer(kernel))(pooled))
    image = np.zeros((2, 48, 48, 1), np.uint8)
    image[:, :, 24:] = 200
    positive, negative = gradcam.heatmaps(model, image, np.array([5, 2]))
    np.testing.assert_allclose(positive, (image[0, :, :, 0] > 0).astype(np.float32))
    assert not negative.any()


@pytest.mark.parametrize("precision", HALF_PRECISIONS)
def test_heatmaps_are_float32_under_every_precision(model, precision):
    mixed = classifier.build(Model(name="tiny"), precision)
    mixed.set_weights(model.get_weights())
    images, classes = factories.images(2), np.array([1, 4])
    maps = gradcam.heatmaps(mixed, images, classes)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, gradcam.heatmaps(model, images, classes), atol=0.1)


LARGE = [pytest.param(name, marks=pytest.mark.extended) for name in ("compact", "efficientnet_b0", "inception_v3")]


@pytest.mark.parametrize("name", ["tiny", *LARGE])
def test_heatmaps_work_for_every_architecture(name):
    size = {"inception_v3": 96}.get(name, 48)
    model = classifier.build(Model(name=name, image_size=max(size, BACKBONES[name].min_size)), "float32")
    maps = gradcam.heatmaps(model, factories.images(3), np.array([0, 1, 2]))
    assert maps.shape == (3, 48, 48)
    assert np.isfinite(maps).all()
    assert set(maps.max(axis=(1, 2)).round(5)) <= {0.0, 1.0}


def test_heatmaps_do_not_depend_on_other_faces_of_the_batch(model):
    images, classes = factories.images(3), np.array([0, 1, 2])
    np.testing.assert_allclose(
        gradcam.heatmaps(model, images, classes)[1:2], gradcam.heatmaps(model, images[1:2], classes[1:2]), atol=1e-5
    )


def test_pick_examples_chooses_most_confident_correct_and_misclassified_face_of_each_class():
    probabilities = np.full((5, 7), 0.01)
    for row, (predicted, confidence) in enumerate([(0, 0.5), (0, 0.9), (1, 0.6), (1, 0.8), (4, 0.7)]):
        probabilities[row, predicted] = confidence
    labels = np.array([0, 0, 0, 0, 4])
    examples = gradcam.pick_examples(labels, probabilities)
    assert examples == [(1, 3), (None, None), (None, None), (None, None), (4, None), (None, None), (None, None)]


def test_plot_examples_titles_both_faces_of_a_class(figures):
    probabilities = np.eye(7)[[0, 3]] * 0.9
    maps = {position: np.zeros((48, 48), np.float32) for position in (0, 1)}
    examples = [(0, 1)] + [(None, None)] * 6
    gradcam.plot_examples(examples, factories.images(2), maps, probabilities, CLASSES, "a title")
    (axes,) = figures[0].axes
    titles = [text.get_text() for text in axes.texts]
    assert titles[0] == "angry\ncorrect (90 %)"
    assert titles[len(CLASSES)] == "angry\npredicted happy (90 %)"
    assert sum("none" in title for title in titles) == 2 * (len(CLASSES) - 1)


def test_plot_examples_draws_each_face_above_its_heatmap(figures):
    images = np.stack([np.full((48, 48, 1), 200, np.uint8), np.full((48, 48, 1), 100, np.uint8)])
    maps = {0: np.zeros((48, 48), np.float32), 1: np.ones((48, 48), np.float32)}
    gradcam.plot_examples([(0, 1)], images, maps, np.eye(2)[[0, 1]], ["a", "b"], "a title")
    (axes,) = figures[0].axes
    sheet = axes.images[0].get_array().astype(int)
    for text, face, brightness in zip(axes.texts, (200, 100), (0, 230)):  # of the ends of the colour map
        x, y = map(int, text.get_position())
        assert (sheet[y + 24, x] == face).all()
        below = sheet[y + 24 + 48 + rendering.FACE_GAP, x].mean()
        assert below == pytest.approx(0.4 * face + 0.6 * brightness, abs=6)
