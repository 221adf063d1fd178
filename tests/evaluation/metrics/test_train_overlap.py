"""Tests of `fer.evaluation.metrics.train_overlap`."""

import numpy as np
import pytest

from fer.evaluation.metrics import train_overlap
from tests.evaluation import factories


def test_in_training_split_compares_every_pixel():
    train = factories.images(5)
    changed = train[3].copy()
    changed[40, 40] ^= 1
    images = np.stack([train[4], changed, train[0], train[4]])
    assert train_overlap.in_training_split(images, train).tolist() == [True, False, True, True]


def test_in_training_split_is_false_without_training_images():
    assert train_overlap.in_training_split(factories.images(2), factories.images(0)).tolist() == [False, False]


def test_exclude_overlap_difference_is_accuracy_with_minus_without():
    labels = np.zeros(10, int)
    predicted = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])  # 6 of 10
    overlap = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)  # 2 of 6 without them
    remaining = train_overlap.exclude_overlap(overlap, labels, np.eye(7)[predicted])
    assert (remaining["examples"], remaining["left_out"]) == (6, 4)
    assert remaining["accuracy"] == pytest.approx(2 / 6)
    assert remaining["accuracy_difference"] == pytest.approx(6 / 10 - 2 / 6)


def test_exclude_overlap_is_none_when_nothing_remains():
    assert train_overlap.exclude_overlap(np.array([True]), np.array([0]), np.eye(7)[[0]]) is None
