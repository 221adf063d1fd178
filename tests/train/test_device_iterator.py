"""Checks the batches of the device iterator and the time of waiting for them."""

import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from fer import tf_workarounds
from fer.data import pipeline
from fer.data.example_codec import Faces
from fer.data.sampling import BatchSchedule
from fer.errors import StorageError
from fer.train.device_iterator import DeviceIterator
from fer.train.distributed.strategy import make_mirrored
from tests.train import factories

FACES = Faces(np.zeros((64, 48, 48, 1), np.uint8), np.arange(64, dtype=np.int32) % 7, np.arange(64), None)


@pytest.fixture(scope="module")
def one() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("CPU:0")


def test_device_iterator_yields_batches_of_pipeline_and_ends(one):
    iterator = DeviceIterator(one, FACES, factories.experiment(), 1, 4)
    expected = list(pipeline.training_batches(FACES, BatchSchedule(0, factories.BATCH, 1, 4, 1, [0])))
    for batch in expected:
        np.testing.assert_array_equal(next(iterator).labels, batch.labels)
    with pytest.raises(StopIteration):
        next(iterator)


def test_device_iterator_counts_time_of_waiting_for_data(one, monkeypatch):
    released = threading.Event()

    def slow_batches(*_arguments):
        def number(value):
            return tf.py_function(lambda item: released.wait() and item, [value], tf.int64)

        return tf.data.Dataset.range(10).map(number).map(lambda value: tf.ensure_shape(value, []))

    monkeypatch.setattr(pipeline, "training_batches", slow_batches)
    iterator = DeviceIterator(one, FACES, factories.experiment(), 0, 10)
    threading.Timer(0.5, released.set).start()
    next(iterator)
    assert iterator.waited > 0.2


def test_device_iterator_does_not_count_time_between_batches_as_waiting(one):
    started = time.perf_counter()
    iterator = DeviceIterator(one, FACES, factories.experiment(), 0, 4)
    for _ in range(4):
        next(iterator)
        time.sleep(0.1)
    assert 0 < iterator.waited <= time.perf_counter() - started - 0.4


def test_device_iterator_disables_autotune_of_prefetch_to_devices(monkeypatch):
    """Deleting an iterator waits for its autotune thread, for up to a minute."""
    strategy = make_mirrored(["CPU:0", "CPU:1"])
    autotune = factories.record_autotune(monkeypatch)
    DeviceIterator(strategy, FACES, factories.experiment(), 0, 4)
    assert autotune == [False, False]
    batches = strategy.distribute_datasets_from_function(lambda _: tf.data.Dataset.range(4).batch(1))
    own_iterator, default_iterator = tf_workarounds.iterate(batches), iter(batches)
    assert autotune == [False, False, False, False, None, None]  # None: TensorFlow's default
    first, second = (
        strategy.experimental_local_results(next(iterator)) for iterator in (own_iterator, default_iterator)
    )
    assert [part.numpy().tolist() for part in first] == [part.numpy().tolist() for part in second] == [[0], [1]]


def test_device_iterator_raises_storage_error_when_data_disappears(one, monkeypatch):
    def missing_batches(*_arguments):
        return tf.data.TFRecordDataset(["/nowhere/train.tfrecord"])

    monkeypatch.setattr(pipeline, "training_batches", missing_batches)
    with pytest.raises(StorageError, match=r"can no longer be read .*nowhere"):
        next(DeviceIterator(one, FACES, factories.experiment(), 0, 1))


def test_input_errors_passes_on_errors_of_the_training_step(one):
    iterator = DeviceIterator(one, FACES, factories.experiment(), 0, 1)

    @tf.function
    def step() -> tf.Tensor:
        return tf.debugging.check_numerics(np.nan * tf.cast(next(iterator._iterator).labels, tf.float32), "loss")

    with pytest.raises(tf.errors.InvalidArgumentError), iterator.input_errors():
        step()


@pytest.mark.parametrize("kind", [tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError])
def test_input_errors_passes_on_errors_whose_message_names_the_input_as_a_neighbour(one, kind):
    """TensorFlow lists ops beside the one that failed."""
    message = "too large [[{{node while/body/tiny/dense/MatMul}}]] [[while/body/IteratorGetNext/_12]]"
    with pytest.raises(kind), DeviceIterator(one, FACES, factories.experiment(), 0, 1).input_errors():
        raise kind(None, None, message)
