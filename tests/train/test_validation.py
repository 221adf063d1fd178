"""Validation figures are exact, on the last partial batch and over replicas too."""

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from fer.config import Model
from fer.data import pipeline, records
from fer.models import classifier
from fer.train import validation


@pytest.fixture(scope="module")
def faces(synthetic_shards):
    return records.read_split(synthetic_shards, "validation")


@pytest.mark.parametrize("devices", [["CPU:0"], ["CPU:0", "CPU:1"]], ids=["one", "two"])
@pytest.mark.parametrize("batch", [16, 64])
def test_the_figures_are_scikit_learns(faces, devices, batch):
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        model = classifier.build(Model(image_size=24), "float32")
    score = validation.scorer(strategy, model, pipeline.evaluation_batches(faces, batch))()
    logits = model(faces.images).numpy()
    predicted = logits.argmax(axis=1)
    np.testing.assert_array_equal(
        score.confusion, sklearn.metrics.confusion_matrix(faces.labels, predicted, labels=range(7))
    )
    assert score.accuracy == pytest.approx(sklearn.metrics.accuracy_score(faces.labels, predicted))
    assert score.macro_f1 == pytest.approx(
        sklearn.metrics.f1_score(faces.labels, predicted, average="macro", labels=range(7), zero_division=0)
    )
    probabilities = tf.nn.softmax(logits).numpy()
    expected = sklearn.metrics.log_loss(faces.labels, probabilities, labels=range(7))
    assert score.loss == pytest.approx(expected, rel=1e-4)


def test_a_later_call_sees_the_weights_as_they_then_are(faces):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    model = classifier.build(Model(image_size=24), "float32", seed=0)
    score = validation.scorer(strategy, model, pipeline.evaluation_batches(faces, 16))
    before = score().loss
    model.set_weights(classifier.build(Model(image_size=24), "float32", seed=1).get_weights())
    assert score().loss != before
