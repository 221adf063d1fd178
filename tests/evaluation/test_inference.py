"""Tests of `fer.evaluation.inference` with a network of convolutions and batch normalization."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from fer.config import TTA
from fer.evaluation import inference

layers = tf.keras.layers


def network(seed: int) -> tf.keras.Model:
    """Builds a network with random weights and non-zero moving means."""
    tf.keras.utils.set_random_seed(seed)
    model = tf.keras.Sequential(
        [
            layers.Input([48, 48, 1], dtype="uint8"),
            layers.Rescaling(1 / 65, -2.0),
            layers.Conv2D(16, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(32, 3, strides=2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(7, kernel_initializer=tf.keras.initializers.RandomNormal(stddev=3.0)),
        ]
    )
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign_add(tf.linspace(-0.2, 0.2, layer.moving_mean.shape[0]))
    return model


@pytest.fixture(scope="module")
def model() -> tf.keras.Model:
    return network(0)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (21, 48, 48, 1), dtype=np.uint8)


@functools.cache
def predict_fn(model, tta: str):
    return inference.make_predict_fn([model], 8, tta)


def probabilities(model, faces, tta: str = "none", progress=lambda count: None) -> np.ndarray:
    """Predicts in batches of eight, with functions that are compiled once for all tests."""
    return predict_fn(model, tta)(faces, progress)


def test_probabilities_are_the_softmax_of_the_logits(model, faces):
    logits = model(faces, training=False).numpy().astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(model, faces), expected, atol=1e-6)


def test_probabilities_are_float32_and_sum_to_one(model, faces):
    found = probabilities(model, faces)
    assert (found.dtype, found.shape) == (np.float32, (21, 7))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-6)


def test_softmax_is_float32_for_low_precision_network(model, faces):
    halves = tf.keras.Sequential([model, layers.Lambda(lambda x: tf.cast(x, tf.bfloat16))])
    np.testing.assert_allclose(probabilities(halves, faces).sum(axis=1), 1.0, atol=1e-6)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=inference.BATCH_TOLERANCE)


@pytest.mark.parametrize("tta", TTA)
def test_probabilities_of_single_face_equal_those_in_batch(model, faces, tta):
    together = probabilities(model, faces, tta)
    for index in (0, 7, 20):
        assert_same(probabilities(model, faces[index : index + 1], tta)[0], together[index])


def test_probabilities_do_not_depend_on_order_beyond_rounding(model, faces):
    order = np.random.default_rng(1).permutation(len(faces))
    assert_same(probabilities(model, faces[order]), probabilities(model, faces)[order])


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_batch_size_changes_probabilities_by_rounding_only(model, faces, batch_size):
    assert_same(inference.predict([model], faces, batch_size).probabilities, probabilities(model, faces))


def test_probabilities_do_not_depend_on_other_faces_of_batch(model, faces):
    others = 255 - faces
    others[::4] = faces[::4]  # same positions, other neighbours
    np.testing.assert_array_equal(probabilities(model, others)[::4], probabilities(model, faces)[::4])


def test_flip_is_the_mean_of_a_face_and_its_mirror_image(model, faces):
    mean = (probabilities(model, faces) + probabilities(model, faces[:, :, ::-1])) / 2
    np.testing.assert_allclose(probabilities(model, faces, tta="flip"), mean, atol=1e-6)


def test_tencrop_is_five_crops_and_their_mirror_images(faces):
    views = [view.numpy() for view in inference.tta_views(tf.constant(faces), "tencrop")]
    assert len(views) == 10
    for crop, mirrored in zip(views[:5], views[5:]):
        np.testing.assert_array_equal(mirrored, crop[:, :, ::-1])


def test_tencrop_crops_are_44_pixels_resized_like_pillow(faces):
    from PIL import Image

    corner, centre = (inference.tta_views(tf.constant(faces), "tencrop")[index].numpy()[0, :, :, 0] for index in (0, 4))
    for ours, offset in ((corner, 0), (centre, 2)):
        crop = Image.fromarray(faces[0, offset : offset + 44, offset : offset + 44, 0])
        theirs = np.asarray(crop.resize((48, 48), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(ours.astype(int) - theirs).max() <= 1  # by rounding


def test_tencrop_is_the_mean_over_its_views(model, faces):
    views = inference.tta_views(tf.constant(faces), "tencrop")
    mean = np.mean([probabilities(model, view.numpy()) for view in views], axis=0)
    np.testing.assert_allclose(probabilities(model, faces, tta="tencrop"), mean, atol=1e-6)


def test_ensemble_prediction_is_mean_of_members(model, faces):
    other = network(1)
    both = inference.predict([model, other], faces, batch_size=8).probabilities
    np.testing.assert_allclose(both, (probabilities(model, faces) + probabilities(other, faces)) / 2, atol=1e-6)


def test_progress_counts_faces_without_padding(model, faces):
    counts = []
    probabilities(model, faces, progress=counts.append)
    assert counts == [8, 8, 5]


def test_images_per_second_excludes_first_batch_which_compiles(model, faces, monkeypatch):
    clock = itertools.count(step=3.0)
    elapsed = {"compiling": 0.0}

    def compile_slowly(*arguments):
        compiled = compile_model(*arguments)
        pending = [100.0]

        def run(images):
            elapsed["compiling"] += pending.pop() if pending else 0.0
            return compiled(images)

        return run

    compile_model = inference._compile
    monkeypatch.setattr(inference, "_compile", compile_slowly)
    monkeypatch.setattr(inference.time, "perf_counter", lambda: next(clock) + elapsed["compiling"])
    assert inference.predict([model], faces, batch_size=8).images_per_second == len(faces) / 3
    assert inference.predict([model], faces, batch_size=8, warm_up=False).images_per_second == (len(faces) - 8) / 3


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 8)])
def test_predict_uses_smaller_batch_for_few_faces(model, faces, monkeypatch, count, size):
    sizes = []
    compile_model = inference._compile

    def compile_and_record(*arguments):
        compiled = compile_model(*arguments)
        return lambda images: sizes.append(len(images)) or compiled(images)

    monkeypatch.setattr(inference, "_compile", compile_and_record)
    found = inference.predict([model], faces[:count], batch_size=8, warm_up=False)
    assert sizes == [size] * -(-count // size)
    assert (found.images_per_second is None) == (count <= size)
    assert_same(found.probabilities, probabilities(model, faces)[:count])
