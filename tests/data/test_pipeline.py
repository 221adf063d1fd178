"""Batches are a function of seed and epoch alone."""

import numpy as np
import pytest

from fer.data import pipeline
from fer.data.example_codec import Faces
from fer.data.sampling import BatchSchedule
from fer.errors import UserError

COUNT, BATCH = 100, 16
STEPS = COUNT // BATCH


@pytest.fixture(scope="module")
def faces() -> Faces:
    """Returns faces whose pixels all have the row number as value."""
    numbers = np.arange(COUNT)
    images = np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (COUNT, 48, 48, 1)).copy()
    votes = (numbers[:, np.newaxis] + np.arange(10, dtype=np.int32)) % 11
    return Faces(images=images, labels=(numbers % 7).astype(np.int32), rows=numbers, votes=votes.astype(np.int32))


@pytest.fixture(scope="module")
def epochs(faces) -> list[np.ndarray]:
    """Returns the rows of three epochs."""
    return read_rows(faces, 0, 3 * STEPS)


def read_rows(faces, start, stop, replicas=1, local=(0,), seed=3) -> list[np.ndarray]:
    batches = pipeline.training_batches(faces, BatchSchedule(seed, BATCH, start, stop, replicas, local))
    return [batch.images.numpy()[:, 0, 0, 0] for batch in batches]


def test_training_batches_repeat_no_face_in_epoch_and_reshuffle(epochs):
    first, second = np.concatenate(epochs[:STEPS]), np.concatenate(epochs[STEPS : 2 * STEPS])
    assert len(np.unique(first)) == len(np.unique(second)) == STEPS * BATCH
    assert (first != second).any()


def test_training_batches_keep_labels_with_images(faces):
    for batch in pipeline.training_batches(faces, BatchSchedule(3, BATCH, 0, STEPS, 1, [0])):
        np.testing.assert_array_equal(batch.labels, batch.images.numpy()[:, 0, 0, 0] % 7)


@pytest.mark.parametrize("with_votes", [False, True])
def test_training_batches_return_votes_on_request(faces, with_votes):
    for batch in pipeline.training_batches(faces, BatchSchedule(3, BATCH, 0, STEPS, 1, [0]), votes=with_votes):
        expected = faces.votes[batch.images.numpy()[:, 0, 0, 0]]
        np.testing.assert_array_equal(batch.votes, expected if with_votes else expected[:, :0])


@pytest.mark.parametrize(
    "start",
    [
        *(pytest.param(step, marks=pytest.mark.extended) for step in (0, 1, STEPS, 3 * STEPS - 1)),
        STEPS - 1,  # the last of an epoch
        STEPS + 2,  # within an epoch that is not the first
    ],
)
def test_training_batches_start_at_any_step(faces, epochs, start):
    np.testing.assert_array_equal(read_rows(faces, start, 3 * STEPS), epochs[start:])


def test_training_batches_stop_within_epoch(faces):
    assert len(read_rows(faces, 2, STEPS + 3)) == STEPS + 1


def test_training_batches_depend_on_seed(faces, epochs):
    assert (np.concatenate(epochs[:2]) != np.concatenate(read_rows(faces, 0, 2, seed=4))).any()


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_split_the_global_batch_in_order(faces, epochs, replicas):
    shared = np.concatenate(read_rows(faces, 0, 5, replicas, range(replicas)))
    np.testing.assert_array_equal(shared, np.concatenate(epochs[:5]))


def test_workers_split_the_global_batch_with_positions(faces, epochs):
    for worker in (0, 1):
        local = [2 * worker, 2 * worker + 1]
        for number, batch in enumerate(pipeline.training_batches(faces, BatchSchedule(3, BATCH, 0, 5, 4, local))):
            step, replica = number // 2, local[number % 2]
            np.testing.assert_array_equal(batch.positions, range(4 * replica, 4 * replica + 4))
            np.testing.assert_array_equal(batch.images[:, 0, 0, 0], epochs[step][batch.positions.numpy()])


def test_training_batches_are_uint8(faces):
    batch = next(iter(pipeline.training_batches(faces, BatchSchedule(3, BATCH, 0, 1, 1, [0]))))
    assert batch.images.dtype.name == "uint8"
    assert batch.images.shape == (BATCH, 48, 48, 1)


@pytest.mark.parametrize("batch", [1, 7, 32, 100, 128])
def test_evaluation_batches_return_every_face_once_in_order_and_equal_size(faces, batch):
    batches = list(pipeline.evaluation_batches(faces, batch))
    assert {part.images.shape[0] for part in batches} == {batch}
    weights = np.concatenate([part.weights for part in batches])
    found = np.concatenate([part.images[:, 0, 0, 0] for part in batches])[weights == 1]
    np.testing.assert_array_equal(found, np.arange(COUNT))


def test_steps_per_epoch_rejects_batch_larger_than_split(faces):
    with pytest.raises(UserError, match="global_batch_size is 128, but the train split has only 100"):
        pipeline.steps_per_epoch(COUNT, 128)
