"""What images seen in training are worth."""

import numpy as np
import pytest

from fer.evaluation.metrics import train_overlap
from tests.evaluation import factories


def test_train_overlap_requires_identical_pixels():
    train = factories.images(5)
    nearly = train[3].copy()
    nearly[40, 40] ^= 1
    scored = np.stack([train[4], nearly, train[0], train[4]])
    assert train_overlap.in_training_split(scored, train).tolist() == [True, False, True, True]


def test_without_training_images_nothing_is_seen():
    assert train_overlap.in_training_split(factories.images(2), factories.images(0)).tolist() == [False, False]


def test_train_overlap_reports_accuracy_difference():
    labels = np.zeros(10, int)
    predicted = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])  # 6 of 10
    seen = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)  # 2 of 6 without them
    found = train_overlap.without(seen, labels, np.eye(7)[predicted])
    assert (found["examples"], found["left_out"]) == (6, 4)
    assert found["accuracy"] == pytest.approx(2 / 6)
    assert found["accuracy_difference"] == pytest.approx(6 / 10 - 2 / 6)


def test_train_overlap_without_unseen_examples_has_no_score():
    assert train_overlap.without(np.array([True]), np.array([0]), np.eye(7)[[0]]) is None
