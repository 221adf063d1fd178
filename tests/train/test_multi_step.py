"""Several steps in one call are the same steps."""

import numpy as np
import pytest
import tensorflow as tf

from fer.data import example_codec, pipeline
from fer.errors import UserError
from fer.train import device_iterator, train_state, train_step
from fer.train.distributed.strategy import make_mirrored
from tests.train import factories


@pytest.fixture(scope="module")
def faces(synthetic_shards):
    return example_codec.read_split(synthetic_shards, "train")


def trained(names: list[str], faces, counts: list[int], most: int) -> tuple[list[np.ndarray], list, float]:
    """Weights after so many calls of so many steps, what each step told, and the time of waiting."""
    strategy, settings = make_mirrored(names), factories.experiment()
    made_state = train_state.create_train_state(strategy, settings, 20, 1000)
    fed = device_iterator.DeviceIterator(strategy, faces, settings, 0, sum(counts))
    call = train_step.make_multi_step(fed, train_step.make_train_step(strategy, made_state, settings), most)
    told = [np.transpose([np.atleast_1d(part) for part in call(count)]) for count in counts]
    weights = [weight.numpy() for weight in [*made_state.model.weights, *made_state.average.weights]]
    return weights, np.concatenate(told).tolist(), fed.waited


@pytest.mark.parametrize(
    "names", [["CPU:0"], pytest.param(["CPU:0", "CPU:1"], marks=pytest.mark.extended)], ids=["one", "two"]
)
def test_they_leave_the_same_bits_and_tell_the_same(faces, names):
    tf.config.experimental.enable_op_determinism()
    single, told_singly, _ = trained(names, faces, [1] * 5, most=1)
    several, told_together, waited = trained(names, faces, [3, 2], most=3)
    for one, other in zip(single, several):
        np.testing.assert_array_equal(one, other)
    assert told_together == told_singly
    assert len(told_together) == 5
    assert 0 < waited < 60


def test_data_that_goes_away_between_them_is_a_sentence(faces, monkeypatch):
    whole = pipeline.training_batches

    def cut(*arguments):
        def fail(batch):
            there = tf.strings.length(tf.io.read_file("/nowhere/train.tfrecord"))
            return batch._replace(labels=batch.labels + there)

        good = whole(*arguments)
        return good.take(2).concatenate(good.skip(2).map(fail))

    monkeypatch.setattr(pipeline, "training_batches", cut)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    fed = device_iterator.DeviceIterator(strategy, faces, factories.experiment(), 0, 8)
    call = train_step.make_multi_step(
        fed, lambda batch: train_step.StepMetrics(*[tf.cast(batch.labels[0], tf.float32)] * 2), 4
    )
    with pytest.raises(UserError, match=r"can no longer be read .*nowhere"):
        call(4)
