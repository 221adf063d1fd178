"""What the trainer is fed, and how long it waits for it."""

import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from fer.data import pipeline
from fer.data.example_codec import Faces
from fer.errors import UserError
from fer.train.device_iterator import DeviceIterator, iterate
from fer.train.distributed.strategy import make_mirrored
from tests.train import factories

FACES = Faces(np.zeros((64, 48, 48, 1), np.uint8), np.arange(64, dtype=np.int32) % 7, np.arange(64), None)


@pytest.fixture(scope="module")
def one() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("CPU:0")


def test_it_gives_the_batches_of_the_pipeline_and_ends(one):
    feed = DeviceIterator(one, FACES, factories.experiment(), 1, 4)
    expected = list(pipeline.training_batches(FACES, 0, factories.BATCH, 1, 4, 1, [0]))
    for batch in expected:
        np.testing.assert_array_equal(next(feed).labels, batch.labels)
    with pytest.raises(StopIteration):
        next(feed)


def test_waiting_is_counted(one, monkeypatch):
    opened = threading.Event()

    def blocked(*_arguments):
        def number(value):
            return tf.py_function(lambda given: opened.wait() and given, [value], tf.int64)

        return tf.data.Dataset.range(10).map(number).map(lambda value: tf.ensure_shape(value, []))

    monkeypatch.setattr(pipeline, "training_batches", blocked)
    feed = DeviceIterator(one, FACES, factories.experiment(), 0, 10)
    threading.Timer(0.5, opened.set).start()
    next(feed)
    assert feed.waited > 0.2


def test_what_happens_between_two_batches_is_no_waiting(one):
    started = time.perf_counter()
    feed = DeviceIterator(one, FACES, factories.experiment(), 0, 4)
    for _ in range(4):
        next(feed)
        time.sleep(0.1)
    assert 0 < feed.waited <= time.perf_counter() - started - 0.4


def test_nothing_tunes_what_is_copied_to_the_devices(monkeypatch):
    """Whoever drops an iterator waits for the thread that does, for up to a minute."""
    strategy = make_mirrored(["CPU:0", "CPU:1"])
    tuned = factories.record_autotune(monkeypatch)
    DeviceIterator(strategy, FACES, factories.experiment(), 0, 4)
    assert tuned == [False, False]
    batches = strategy.distribute_datasets_from_function(lambda _: tf.data.Dataset.range(4).batch(1))
    ours, theirs = iterate(batches), iter(batches)
    assert tuned == [False, False, False, False, None, None]  # None: as TensorFlow likes
    first, second = (strategy.experimental_local_results(next(iterator)) for iterator in (ours, theirs))
    assert [part.numpy().tolist() for part in first] == [part.numpy().tolist() for part in second] == [[0], [1]]


def test_data_that_goes_away_is_a_sentence(one, monkeypatch):
    def gone(*_arguments):
        return tf.data.TFRecordDataset(["/nowhere/train.tfrecord"])

    monkeypatch.setattr(pipeline, "training_batches", gone)
    with pytest.raises(UserError, match=r"can no longer be read .*nowhere"):
        next(DeviceIterator(one, FACES, factories.experiment(), 0, 1))


def test_another_error_is_not_called_one_of_the_data(one):
    feed = DeviceIterator(one, FACES, factories.experiment(), 0, 1)

    @tf.function
    def step() -> tf.Tensor:
        return tf.debugging.check_numerics(np.nan * tf.cast(next(feed._iterator).labels, tf.float32), "loss")

    with pytest.raises(tf.errors.InvalidArgumentError), feed.input_errors():
        step()
