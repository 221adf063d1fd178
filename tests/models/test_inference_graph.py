"""The inference graph: its output, and files that do not match the weights."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.models import classifier, inference_graph

FACES = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), dtype=np.uint8)
CONFIGS = {
    "without a resize": Model(name="tiny"),
    "resized, with dropout": Model(name="tiny", image_size=24, dropout=0.5),
    "weights of pooling": Model(name="tiny", pooling="gem"),
}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request) -> tf.keras.Model:
    model = classifier.build(CONFIGS[request.param], "float32", seed=1)
    model.set_weights([np.abs(weight) + 0.01 * position for position, weight in enumerate(model.get_weights())])
    return model


def logits(network, faces: np.ndarray) -> np.ndarray:
    return tf.function(network, autograph=False)(tf.constant(faces)).numpy()


def test_read_graph_computes_what_the_network_does(model, tmp_path):
    path = str(tmp_path / "graph.pb")
    inference_graph.write(model, path)
    network = inference_graph.read(path, model.get_weights())
    for faces in (FACES, FACES[:1]):
        np.testing.assert_array_equal(logits(network, faces), logits(lambda x: model(x, training=False), faces))


def test_read_graph_has_the_weights_that_it_is_given(model, tmp_path):
    path = str(tmp_path / "graph.pb")
    inference_graph.write(model, path)
    assert max(weight.nbytes for weight in model.get_weights()) > 1000
    halves = [weight / 2 for weight in model.get_weights()]
    found = logits(inference_graph.read(path, halves), FACES)
    other = tf.keras.models.clone_model(model)
    other.set_weights(halves)
    np.testing.assert_array_equal(found, logits(lambda x: other(x, training=False), FACES))


def test_graph_is_written_alike_each_time(tmp_path):
    model = classifier.build(CONFIGS["without a resize"], "float32")
    for name in ("a.pb", "b.pb"):
        inference_graph.write(model, str(tmp_path / name))
    assert (tmp_path / "a.pb").read_bytes() == (tmp_path / "b.pb").read_bytes()


def test_graph_cannot_be_trained(tmp_path):
    model = classifier.build(CONFIGS["without a resize"], "float32")
    inference_graph.write(model, str(tmp_path / "graph.pb"))
    network = inference_graph.read(str(tmp_path / "graph.pb"), model.get_weights())
    with pytest.raises(ValueError, match="cannot be trained"):
        network(tf.constant(FACES), training=True)


@pytest.mark.parametrize("kind", ["absent", "damaged", "fewer weights", "other shapes"])
def test_inference_graph_of_other_weights_raises_user_error(kind, tmp_path):
    path, model = tmp_path / "graph.pb", classifier.build(CONFIGS["without a resize"], "float32")
    arrays = model.get_weights()
    if kind != "absent":
        inference_graph.write(model, str(path))
    if kind == "damaged":
        path.write_bytes(path.read_bytes()[:-7])
    if kind == "fewer weights":
        arrays = arrays[:2]
    if kind == "other shapes":
        arrays[0] = arrays[0][..., :1]
    with pytest.raises(UserError, match=r"graph\.pb"):
        inference_graph.read(str(path), arrays)
