"""Balanced sampling draws every class, and every face of a class, equally often."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from fer.data import pipeline, sampling
from fer.data.example_codec import Faces
from fer.data.sampling import BatchSchedule

LABELS = np.repeat(np.arange(7), [40, 3, 41, 72, 48, 32, 50]).astype(np.int32)
STEPS, BATCH = 8, 32


def draw_rows(epochs: int) -> np.ndarray:
    """Returns the rows of the first epochs, int32 [epochs * STEPS, BATCH]."""
    return trace_plan(tuple(LABELS), 40)[: epochs * STEPS]


@functools.lru_cache
def trace_plan(labels: tuple[int, ...], epochs: int) -> np.ndarray:
    """Returns the rows of the first epochs of a plan, traced once, as tf.data traces it."""
    plan = tf.function(sampling.epoch_order("balanced", np.array(labels, np.int32), 5, STEPS, BATCH), autograph=False)
    return np.concatenate([plan(tf.constant(epoch, tf.int64)).numpy() for epoch in range(epochs)])


def test_sampling_draws_each_class_equally_often():
    counts = np.bincount(LABELS[draw_rows(7).ravel()])
    assert counts.max() - counts.min() <= 1


def test_sampling_balances_each_batch():
    for batch in draw_rows(3):
        assert set(np.bincount(LABELS[batch], minlength=7)) <= {BATCH // 7, BATCH // 7 + 1}


@pytest.mark.parametrize("label", range(7))
def test_sampling_draws_each_face_of_a_class_equally_often(label):
    counts = np.bincount(draw_rows(9).ravel(), minlength=len(LABELS))[label == LABELS]
    assert counts.max() - counts.min() <= 1


def test_sampling_reshuffles_each_pass_over_a_class():
    rows = draw_rows(5).ravel()
    fear = rows[LABELS[rows] == 2][:123].reshape(3, 41)
    assert (fear[0] != fear[1]).any()
    assert (fear[1] != fear[2]).any()


def test_sampling_shuffles_classes_within_the_batch():
    labels = LABELS[draw_rows(40)]
    assert all(len(np.unique(column)) == 7 for column in labels.T)


def test_sampling_skips_unlabelled_faces_and_empty_classes():
    labels = np.where(LABELS < 2, -1, LABELS)
    counts = np.bincount(labels[trace_plan(tuple(labels), 5).ravel()], minlength=7)
    assert (counts[:2] == 0).all()
    assert counts[2:].max() - counts[2:].min() <= 1


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(1, marks=pytest.mark.extended),
        pytest.param(STEPS - 1, marks=pytest.mark.extended),
        STEPS + 5,  # within an epoch that is not the first
    ],
)
def test_training_batches_start_at_any_step_when_balanced(start):
    images = np.zeros((len(LABELS), 48, 48, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.arange(len(LABELS)) // 256, np.arange(len(LABELS)) % 256
    faces = Faces(images, LABELS, np.arange(len(LABELS)), None)
    batches = pipeline.training_batches(faces, BatchSchedule(5, BATCH, start, 20, 1, [0]), "balanced")
    rows = np.array([batch.images.numpy()[:, 0, :2, 0] @ [256, 1] for batch in batches])
    np.testing.assert_array_equal(rows, draw_rows(3)[start:20])
