"""Weights on disk."""

import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.models import classifier, weights

FACES = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)
SHAPES = ([3, 3, 64, 128], [128], [128, 7])
TINY = Model(name="tiny", image_size=24)


@pytest.fixture(scope="module")
def model():
    return classifier.build(TINY, "float32", seed=1)


def test_weights_give_the_same_logits_after_save_and_load(model, tmp_path):
    path = str(tmp_path / "weights.npz")
    weights.save(model.weights, path)
    other = classifier.build(TINY, "float32", seed=2)
    assert (other(FACES).numpy() != model(FACES).numpy()).any()
    weights.load(other, path)
    np.testing.assert_array_equal(other(FACES), model(FACES))


def test_save_as_float16_halves_the_file_and_rounds_the_weights(tmp_path):
    whole, half = str(tmp_path / "whole.npz"), str(tmp_path / "half.npz")
    variables = [tf.Variable(np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)) for shape in SHAPES]
    weights.save(variables, whole)
    weights.save(variables, half, dtype="float16")
    assert len(weights.read(whole)) == len(SHAPES)
    for exact, rounded in zip(weights.read(whole).values(), weights.read(half).values()):
        assert rounded.dtype == np.float16
        np.testing.assert_allclose(rounded, exact, rtol=2**-11, atol=2**-24)
    assert os.path.getsize(half) < 0.51 * os.path.getsize(whole)


def test_load_rejects_weights_of_another_architecture(model, tmp_path):
    path = str(tmp_path / "weights.npz")
    weights.save(model.weights, path)
    with pytest.raises(UserError, match="belongs to another architecture than tiny"):
        weights.load(classifier.build(Model(name="tiny", image_size=24, truncate_at="half"), "float32"), path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_load_error_names_array_with_a_value_that_is_not_finite(model, tmp_path, value):
    path, arrays = tmp_path / "weights.npz", model.get_weights()
    arrays[1].flat[0] = value
    path.write_bytes(weights.pack(arrays, np.savez))
    with pytest.raises(UserError, match=r"weights\.npz holds NaN or infinite weights in the array 00001"):
        weights.load(model, str(path))


DAMAGE = ["absent", "cut", "empty", "no archive", "one array", "a text beside", "texts", "compressed", "pickled"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_load_error_names_damaged_file(model, tmp_path, damage):
    path = tmp_path / "weights.npz"
    weights.save(model.weights, str(path))
    if damage == "one array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "a text beside":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("README.txt", "weights")
    elif damage == "texts":
        np.savez(path, *(np.full(weight.shape, "x") for weight in model.weights))
    elif damage == "compressed":
        np.savez_compressed(path, *(weight.numpy() for weight in model.weights))
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 9] = b"\xff" * 9
        path.write_bytes(bytes(content))
    elif damage == "absent":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no archive":
        path.write_bytes(b"weights")
    else:
        np.savez(path, np.array([{"never": "unpickled"}], dtype=object))
    with pytest.raises(UserError, match=r"weights\.npz"):
        weights.load(model, str(path))
