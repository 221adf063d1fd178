"""Checks that several steps in one call equal single steps."""

import numpy as np
import pytest
import tensorflow as tf

from fer.data import example_codec, pipeline
from fer.errors import UserError
from fer.train import device_iterator, multi_step, train_state, train_step
from fer.train.distributed.strategy import make_mirrored
from tests.train import factories


@pytest.fixture(scope="module")
def faces(synthetic_shards):
    return example_codec.read_split(synthetic_shards, "train")


def run_steps(names: list[str], faces, counts: list[int], max_steps: int) -> tuple[list[np.ndarray], list, float]:
    """Trains with one call for each of `counts`. Returns the weights, the metrics of each step and seconds waited."""
    strategy, settings = make_mirrored(names), factories.experiment()
    state = train_state.create_train_state(strategy, settings, 20, 1000)
    batches = device_iterator.DeviceIterator(strategy, faces, settings, 0, sum(counts))
    step = train_step.make_train_step(train_step.StepContext(strategy, state, settings))
    call = multi_step.make_multi_step(batches, step, max_steps)
    metrics = [np.transpose([np.atleast_1d(part) for part in call(count)]) for count in counts]
    weights = [weight.numpy() for weight in [*state.model.weights, *state.average.weights]]
    return weights, np.concatenate(metrics).tolist(), batches.waited


@pytest.mark.parametrize(
    "names", [["CPU:0"], pytest.param(["CPU:0", "CPU:1"], marks=pytest.mark.extended)], ids=["one", "two"]
)
def test_multi_step_gives_same_weights_and_metrics_as_single_steps(faces, names):
    tf.config.experimental.enable_op_determinism()
    single, single_metrics, _ = run_steps(names, faces, [1] * 5, max_steps=1)
    multi, multi_metrics, waited = run_steps(names, faces, [3, 2], max_steps=3)
    for one, other in zip(single, multi):
        np.testing.assert_array_equal(one, other)
    assert multi_metrics == single_metrics
    assert len(multi_metrics) == 5
    assert 0 < waited < 60


def test_multi_step_raises_user_error_when_data_disappears_within_a_call(faces, monkeypatch):
    original = pipeline.training_batches

    def failing_batches(*arguments):
        def fail(batch):
            length = tf.strings.length(tf.io.read_file("/nowhere/train.tfrecord"))
            return batch._replace(labels=batch.labels + length)

        batches = original(*arguments)
        return batches.take(2).concatenate(batches.skip(2).map(fail))

    monkeypatch.setattr(pipeline, "training_batches", failing_batches)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    batches = device_iterator.DeviceIterator(strategy, faces, factories.experiment(), 0, 8)
    call = multi_step.make_multi_step(
        batches, lambda batch: train_step.StepMetrics(*[tf.cast(batch.labels[0], tf.float32)] * 2), 4
    )
    with pytest.raises(UserError, match=r"can no longer be read .*nowhere"):
        call(4)
