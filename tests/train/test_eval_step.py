"""Checks that validation metrics are exact, with a partial last batch and several replicas too."""

import sys

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from fer.config import Model
from fer.data import example_codec, pipeline
from fer.evaluation.metrics import metrics
from fer.models import classifier
from fer.train import eval_step
from fer.train.distributed.strategy import make_mirrored
from tests.marks import needs_addons
from tests.train import factories

SMALL = Model(name="tiny", image_size=24)


@pytest.fixture(scope="module")
def faces(synthetic_shards):
    return example_codec.read_split(synthetic_shards, "validation")


@pytest.mark.parametrize(
    ("names", "batch"),
    [
        (["CPU:0"], 64),
        (["CPU:0", "CPU:1"], 16),
        pytest.param(["CPU:0"], 16, marks=pytest.mark.extended),
        pytest.param(["CPU:0", "CPU:1"], 64, marks=pytest.mark.extended),
    ],
)
def test_make_scorer_metrics_equal_scikit_learn(faces, names, batch):
    """With 40 faces, the last batch of 16 holds 8, which two replicas share unevenly."""
    strategy = make_mirrored(names)
    with strategy.scope():
        model = classifier.build(SMALL, "float32")
    score = eval_step.make_scorer(strategy, model, pipeline.evaluation_batches(faces, batch))()
    logits = model(faces.images).numpy()
    predicted = logits.argmax(axis=1)
    np.testing.assert_array_equal(
        score.confusion, sklearn.metrics.confusion_matrix(faces.labels, predicted, labels=range(7))
    )
    assert score.accuracy == pytest.approx(sklearn.metrics.accuracy_score(faces.labels, predicted))
    assert score.macro_f1 == pytest.approx(
        sklearn.metrics.f1_score(faces.labels, predicted, average="macro", labels=range(7), zero_division=0)
    )
    assert score.cohen_kappa == pytest.approx(sklearn.metrics.cohen_kappa_score(faces.labels, predicted), abs=1e-6)
    assert score.matthews == pytest.approx(sklearn.metrics.matthews_corrcoef(faces.labels, predicted), abs=1e-12)
    probabilities = tf.nn.softmax(logits).numpy()
    expected = sklearn.metrics.log_loss(faces.labels, probabilities, labels=range(7))
    assert score.loss == pytest.approx(expected, rel=1e-4)
    wrong = np.flatnonzero(predicted != faces.labels)
    order = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    np.testing.assert_array_equal(score.mistakes.labels, faces.labels[order])
    np.testing.assert_array_equal(score.mistakes.images, faces.images[order])
    np.testing.assert_allclose(score.mistakes.probabilities, probabilities[order], rtol=1e-4, atol=1e-6)


def test_make_scorer_disables_autotune_of_prefetch_to_devices(faces, monkeypatch):
    strategy = make_mirrored(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = classifier.build(SMALL, "float32")
    autotune = factories.record_autotune(monkeypatch)
    eval_step.make_scorer(strategy, model, pipeline.evaluation_batches(faces, 16))()
    assert autotune == [False, False]


def test_make_scorer_keeps_the_most_confident_mistakes(faces, monkeypatch):
    monkeypatch.setattr(eval_step, "MAX_MISTAKES", 5)
    strategy, model = tf.distribute.OneDeviceStrategy("CPU:0"), classifier.build(SMALL, "float32")
    make_score = eval_step.make_scorer(strategy, model, pipeline.evaluation_batches(faces, 16))
    mistakes = make_score().mistakes
    probabilities = tf.nn.softmax(model(faces.images)).numpy()
    wrong = probabilities[probabilities.argmax(axis=1) != faces.labels]
    assert len(wrong) > 5
    np.testing.assert_allclose(mistakes.confidence, np.sort(wrong.max(axis=1))[::-1][:5], rtol=1e-5)
    assert not make_score().of_one_worker
    monkeypatch.setattr(eval_step.multi_worker, "is_multi_worker", lambda strategy: True)
    assert make_score().of_one_worker


INSTALLED = [pytest.param(True, marks=needs_addons, id="with Addons"), pytest.param(False, id="without")]
MATRICES = {
    "FER-2013's size": np.random.default_rng(0).integers(0, 150, (7, 7)) + 300 * np.eye(7, dtype=np.int64),
    "a million faces": np.random.default_rng(1).integers(0, 20_000, (7, 7)) + 90_000 * np.eye(7, dtype=np.int64),
    "class without faces": np.random.default_rng(2).integers(0, 9, (7, 7)) * (np.arange(7) != 3)[:, np.newaxis],
    "one predicted class": np.array([[0, 5, 0, 0, 0, 0, 0]] * 7),
}


@pytest.mark.parametrize("installed", INSTALLED)
@pytest.mark.parametrize("kind", MATRICES)
def test_score_kappa_and_matthews_equal_exact_values_with_and_without_addons(kind, installed, monkeypatch):
    if not installed:
        monkeypatch.setitem(sys.modules, "tensorflow_addons", None)  # makes the import fail
    confusion = MATRICES[kind]
    score = eval_step.Score(1.0, confusion)
    exact = np.array(confusion, object)  # Python integers do not overflow
    true, predicted, total = exact.sum(axis=1), exact.sum(axis=0), exact.sum()
    chance = (true * predicted).sum()
    assert score.cohen_kappa == pytest.approx(float((exact.trace() * total - chance) / (total**2 - chance)), abs=1e-6)
    spread = float(total**2 - (true**2).sum()) * float(total**2 - (predicted**2).sum())
    expected = float(exact.trace() * total - chance) / spread**0.5 if spread else 0.0
    assert score.matthews == pytest.approx(expected, abs=1e-9)


@needs_addons
def test_addons_metrics_equal_metrics_of_evaluations_on_random_matrices():
    random = np.random.default_rng(3)
    matrices = random.integers(0, 300, (20, 7, 7)) * (random.random((20, 7, 7)) < 0.6)
    with_addons = [eval_step.Score(1.0, confusion) for confusion in matrices]
    for name in ("cohen_kappa", "matthews"):
        found = [getattr(score, name) for score in with_addons]
        np.testing.assert_allclose(found, getattr(metrics, name)(matrices), atol=1e-6)


@pytest.mark.parametrize("installed", INSTALLED)
def test_score_kappa_is_undefined_and_matthews_zero_for_a_single_cell(installed, monkeypatch):
    if not installed:
        monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    single = np.zeros([7, 7], np.int64)
    single[3, 3] = 9
    score = eval_step.Score(1.0, single)
    assert score.cohen_kappa is None
    assert score.matthews == 0.0


def test_make_scorer_uses_current_weights_in_each_call(faces):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    model = classifier.build(SMALL, "float32", seed=0)
    score = eval_step.make_scorer(strategy, model, pipeline.evaluation_batches(faces, 16))
    before = score().loss
    model.set_weights(classifier.build(SMALL, "float32", seed=1).get_weights())
    assert score().loss != before
