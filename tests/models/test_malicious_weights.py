"""Weights that contain code: a Lambda layer in Keras files, a pickle in an .npz."""

import os

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.models import classifier, pretrained, registry


def load_into_a_classifier(path: str) -> tf.keras.Model:
    config = Model(name="tiny", image_size=32, weights=path)
    model = classifier.build(config, "float32", seed=7)
    pretrained.load(model, config)
    return model


@pytest.fixture(scope="module")
def network_with_a_lambda(tmp_path_factory):
    """Backbone `tiny` followed by a Lambda layer that creates a folder when its model is built."""
    trace = tmp_path_factory.mktemp("lambda") / "ran"
    # The file contains the function as bytecode, with the path that it creates as a default argument.
    attack = eval(f"lambda x, at={str(trace)!r}: (__import__('os').makedirs(at, exist_ok=True), x)[1]")
    network = registry.backbone_spec("tiny").build(32, 1)
    model = tf.keras.Model(network.input, tf.keras.layers.Lambda(attack)(network.output))
    trace.rmdir()  # created when this model was built
    return model, trace


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_lambda_layer_code_never_runs(network_with_a_lambda, tmp_path, kind):
    model, trace = network_with_a_lambda
    path = str(tmp_path / f"weights.{kind}")
    model.save(path)
    taken = {array.tobytes() for array in load_into_a_classifier(path).get_weights()}
    assert all(array.tobytes() in taken for array in model.get_weights())
    assert not trace.exists()
    tf.keras.models.load_model(path, compile=False, **({"safe_mode": False} if kind == "keras" else {}))
    assert trace.exists(), "the file is harmless, so nothing was tested"
    trace.rmdir()


class Attack:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, at: str):
        self.at = at

    def __reduce__(self):
        return os.makedirs, (self.at,)


def test_npz_with_pickle_raises_user_error_and_never_runs(tmp_path):
    path, trace = str(tmp_path / "weights.npz"), tmp_path / "ran"
    np.savez(path, np.array([Attack(str(trace))], dtype=object))
    with pytest.raises(UserError, match=r"weights\.npz is no readable \.npz of weights: [^\n]*$"):
        load_into_a_classifier(path)
    assert not trace.exists()
    with np.load(path, allow_pickle=True) as archive:
        list(archive.values())
    assert trace.exists(), "the file is harmless, so nothing was tested"
