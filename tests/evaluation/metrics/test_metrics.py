"""Tests of `fer.evaluation.metrics.metrics`: each metric recomputed by hand on a small case."""

import functools
import json
import math

import numpy as np
import pytest
import sklearn.metrics
from scipy import stats
from sklearn import calibration

from fer.evaluation.metrics import metrics
from fer.labels import CLASSES, FERPLUS_COLUMNS

# Eight faces. True: 3 happy (3), 3 sad (4), 2 neutral (6).
LABELS = np.array([3, 3, 3, 4, 4, 4, 6, 6])
# Predicted: happy, happy, sad | sad, sad, neutral | neutral, happy; confidence 0.88 if correct, else 0.4.
PREDICTED = [3, 3, 4, 4, 4, 6, 6, 3]


def row(predicted: int, confidence: float) -> np.ndarray:
    """Returns probabilities [7]; the other six classes share the rest evenly."""
    probabilities = np.full(7, (1 - confidence) / 6)
    probabilities[predicted] = confidence
    return probabilities


@pytest.fixture
def probabilities() -> np.ndarray:
    return np.stack([row(p, 0.88 if p == t else 0.4) for p, t in zip(PREDICTED, LABELS)])


@pytest.fixture
def figures(probabilities) -> dict:
    return metrics.compute_metrics(LABELS, probabilities, CLASSES)


def random_matrices() -> np.ndarray:
    """Returns confusion matrices [20, 7, 7], some of them without examples or predictions of some classes."""
    random = np.random.default_rng(0)
    matrices = random.integers(0, 200, (20, 7, 7)) + 300 * np.eye(7, dtype=np.int64)
    matrices[5:10, 2] = 0
    matrices[8:12, :, 4] = 0
    matrices[12] *= np.arange(7)[:, np.newaxis] == 3
    matrices[13] *= np.arange(7) == 3
    return matrices


SCIKIT_LEARN = {
    metrics.accuracy: sklearn.metrics.accuracy_score,
    metrics.balanced_accuracy: sklearn.metrics.balanced_accuracy_score,
    metrics.macro_f1: functools.partial(sklearn.metrics.f1_score, average="macro", labels=range(7), zero_division=0),
    metrics.cohen_kappa: sklearn.metrics.cohen_kappa_score,
    metrics.matthews: sklearn.metrics.matthews_corrcoef,
    metrics.precision: functools.partial(
        sklearn.metrics.precision_score, average=None, labels=range(7), zero_division=0
    ),
    metrics.recall: functools.partial(sklearn.metrics.recall_score, average=None, labels=range(7), zero_division=0),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of scikit-learn, about classes that do not occur
@pytest.mark.parametrize("metric", SCIKIT_LEARN, ids=lambda metric: metric.__name__)
def test_matrix_metrics_of_many_matrices_equal_scikit_learn(metric):
    true, predicted = np.indices((7, 7)).reshape(2, -1)
    matrices = random_matrices()
    theirs = [
        SCIKIT_LEARN[metric](true[counts > 0], predicted[counts > 0], sample_weight=counts[counts > 0])
        for counts in matrices.reshape(len(matrices), -1)
    ]
    np.testing.assert_allclose(metric(matrices), theirs, atol=1e-12)


def test_log_loss_equals_scikit_learn():
    random = np.random.default_rng(0)
    probabilities = np.concatenate([random.dirichlet(np.full(7, 0.3), 500), np.eye(7)])
    labels = random.integers(0, 7, len(probabilities))
    theirs = sklearn.metrics.log_loss(labels, probabilities, labels=range(7))
    assert metrics.compute_metrics(labels, probabilities, CLASSES)["log_loss"] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("faces", [9, 20, 21, 43])  # their rounded precisions sum to more than 1
def test_average_precision_does_not_exceed_1(faces):
    labels = np.repeat(np.arange(7), faces)
    confidences = np.linspace(0.8, 0.9, len(labels))
    per_class = metrics.compute_metrics(labels, np.stack([*map(row, labels, confidences)]), CLASSES)["per_class"]
    assert {of_class["average_precision"] for of_class in per_class.values()} == {1.0}


def test_accuracy_is_share_of_correct_predictions(figures):
    assert figures["accuracy"] == 5 / 8


def test_confusion_matrix_counts_true_rows_and_predicted_columns(figures):
    expected = np.zeros((7, 7), int)
    expected[3, 3], expected[3, 4], expected[4, 4], expected[4, 6], expected[6, 6], expected[6, 3] = 2, 1, 2, 1, 1, 1
    assert figures["confusion_matrix"] == expected.tolist()


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur(figures):
    assert figures["balanced_accuracy"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 2) / 3)


def test_precision_recall_and_f1_of_a_class(figures):
    happy = figures["per_class"]["happy"]
    assert (happy["precision"], happy["recall"], happy["support"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
    neutral = figures["per_class"]["neutral"]
    assert (neutral["precision"], neutral["recall"], neutral["support"]) == (1 / 2, 1 / 2, 2)
    assert neutral["f1"] == pytest.approx(1 / 2)


def test_macro_f1_is_the_mean_of_the_seven(figures):
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 2) / 7)


def test_kappa_is_agreement_beyond_chance(figures):
    by_chance = (3 * 3 + 3 * 3 + 2 * 2) / 64  # true times predicted counts, class by class
    assert figures["cohen_kappa"] == pytest.approx((5 / 8 - by_chance) / (1 - by_chance))


def test_matthews_is_the_multiclass_correlation(figures):
    # Gorodkin 2004: (c s - sum t p) / sqrt((s^2 - sum p^2)(s^2 - sum t^2)), c of s correct; t and p are counts.
    assert figures["matthews"] == pytest.approx((5 * 8 - 22) / math.sqrt((64 - 22) * (64 - 22)))


def test_log_loss_is_mean_cross_entropy(figures):
    assert figures["log_loss"] == pytest.approx(-(5 * math.log(0.88) + 3 * math.log(0.1)) / 8)


def test_brier_is_the_squared_distance_to_the_one_hot_label(figures):
    correct = (1 - 0.88) ** 2 + 6 * 0.02**2
    wrong = 0.4**2 + (1 - 0.1) ** 2 + 5 * 0.1**2
    assert figures["brier"] == pytest.approx((5 * correct + 3 * wrong) / 8)


def test_ece_weighs_each_bins_gap_by_its_examples(figures):
    # 0.88 lies in the bin (13/15, 14/15], all correct; 0.4 in (5/15, 6/15], all wrong.
    assert figures["ece"] == pytest.approx(5 / 8 * abs(1 - 0.88) + 3 / 8 * abs(0 - 0.4))


def test_roc_auc_is_the_share_of_pairs_in_the_right_order(figures, probabilities):
    for index in (3, 4, 6):
        is_class = np.equal(LABELS, index)
        inside, outside = probabilities[is_class, index], probabilities[~is_class, index]
        pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
        assert figures["per_class"][CLASSES[index]]["roc_auc"] == pytest.approx(np.mean(pairs))


def test_average_precision_is_the_precision_at_each_example_of_the_class(figures):
    # By the score for happy: two happy faces and the neutral one predicted as happy (0.88, 0.88, 0.4), then the third
    # happy face together with one other (0.1): precision 2/2 at recall 2/3, and 3/5 at 3/3.
    assert figures["per_class"]["happy"]["average_precision"] == pytest.approx(2 / 3 * 1 + 1 / 3 * 3 / 5)


def test_per_class_areas_are_none_without_examples(figures):
    disgust = figures["per_class"]["disgust"]
    assert disgust["roc_auc"] is disgust["average_precision"] is None


def test_compute_metrics_returns_no_nan_with_few_classes():
    for label in range(7):
        for predicted in range(7):
            figures = metrics.compute_metrics(np.array([label]), row(predicted, 0.9)[None], CLASSES)
            json.dumps(figures, allow_nan=False)


def test_kappa_is_none_for_a_single_class():
    assert metrics.compute_metrics(np.array([3, 3]), np.stack([row(3, 0.9)] * 2), CLASSES)["cohen_kappa"] is None


def test_log_loss_is_finite_for_certain_wrong_prediction():
    assert math.isfinite(metrics.compute_metrics(np.array([0]), np.eye(7)[[1]], CLASSES)["log_loss"])


def test_wilson_ends_are_196_standard_errors_away():
    for successes, trials in ((2493, 3589), (1, 10), (7, 8)):
        for bound in metrics.wilson(successes, trials):
            distance = abs(successes / trials - bound) / math.sqrt(bound * (1 - bound) / trials)
            assert distance == pytest.approx(stats.norm.ppf(0.975))


def test_wilson_agrees_with_scipy_at_the_ends():
    for successes in (0, 20):
        theirs = stats.binomtest(successes, 20).proportion_ci(0.95, method="wilson")
        assert metrics.wilson(successes, 20) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_and_bootstrap_agree_at_the_size_of_fer2013():
    correct = np.arange(3589) < 2493
    accuracy = stats.bootstrap(
        (correct,), np.mean, confidence_level=0.95, n_resamples=2000, method="percentile", random_state=0, batch=100
    ).confidence_interval
    np.testing.assert_allclose(metrics.wilson(2493, 3589), (accuracy.low, accuracy.high), atol=0.0015)


def test_reliability_is_the_curve_that_scikit_learn_draws():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(7), 2000)
    labels = generator.integers(0, 7, 2000)
    correct = probabilities.argmax(1) == labels
    accuracy, confidence = calibration.calibration_curve(correct, probabilities.max(1), n_bins=15)
    ours = np.array([bin_ for bin_ in metrics.reliability(labels, probabilities) if bin_[0]])
    np.testing.assert_allclose(ours[:, 1:], np.stack([accuracy, confidence], axis=1))


def test_reliability_puts_confidence_1_into_last_bin():
    assert metrics.reliability(np.array([2]), np.eye(7)[[2]])[-1] == (1, 1.0, 1.0)


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        (np.array([], int), np.zeros((0, 7))),
        (np.array([0, 1]), np.eye(7)[:1]),
        (np.array([7]), np.eye(7)[:1]),
        (np.array([-1]), np.eye(7)[:1]),
        (np.array([0]), np.full((1, 7), 0.5)),
    ],
    ids=["no examples", "other lengths", "label 7", "unlabelled", "no probabilities"],
)
def test_compute_metrics_rejects_invalid_arguments(labels, probabilities):
    with pytest.raises(ValueError, match="must"):
        metrics.compute_metrics(labels, probabilities, CLASSES)


def votes(**counts) -> np.ndarray:
    """Returns one row of FER+ votes, [10], from the number of votes of each named column."""
    return np.array([counts.get(column, 0) for column in FERPLUS_COLUMNS])


def test_accuracy_by_agreement_groups_examples_by_most_votes():
    rows = np.stack([votes(anger=10), votes(fear=7, sadness=3), votes(fear=7, NF=3), votes(NF=10)])
    groups = metrics.accuracy_by_agreement(rows, np.array([True, True, False, False]))
    assert groups == [{"votes": 7, "examples": 2, "accuracy": 0.5}, {"votes": 10, "examples": 2, "accuracy": 0.5}]


@pytest.mark.parametrize("count", [2, 3, 100])
def test_compute_metrics_of_own_classes_equal_scikit_learn(count):
    classes = [f"class {number}" for number in range(count)]
    random = np.random.default_rng(count)
    probabilities = random.dirichlet(np.full(count, 0.5), 20 * count)
    labels = np.repeat(np.arange(count), 20)
    figures, predicted = metrics.compute_metrics(labels, probabilities, classes), probabilities.argmax(axis=1)
    assert figures["log_loss"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities))
    assert figures["cohen_kappa"] == pytest.approx(sklearn.metrics.cohen_kappa_score(labels, predicted))
    assert figures["balanced_accuracy"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, predicted))
    assert figures["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(labels, predicted, average="macro"))
    assert figures["matthews"] == pytest.approx(sklearn.metrics.matthews_corrcoef(labels, predicted))
    areas = [of_class["roc_auc"] for of_class in figures["per_class"].values()]
    theirs = sklearn.metrics.roc_auc_score(np.eye(count)[labels], probabilities, average=None)
    np.testing.assert_allclose(areas, theirs)
    assert np.shape(figures["confusion_matrix"]) == (count, count)
