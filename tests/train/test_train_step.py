"""Checks the training step on one and two replicas and in every precision, and several steps in one call."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from fer.augment.xla_support import as_on_gpu
from fer.config import Experiment
from fer.data import example_codec, pipeline
from fer.data.sampling import BatchSchedule
from fer.errors import StorageError
from fer.train import device_iterator, train_state, train_step
from fer.train.distributed.strategy import make_mirrored
from fer.train.optim import packed
from tests import marks
from tests.train import factories


@pytest.fixture(scope="module")
def faces(synthetic_shards):
    return example_codec.read_split(synthetic_shards, "train")


@pytest.fixture(scope="module")
def one() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.fixture(scope="module")
def two() -> tf.distribute.Strategy:
    return make_mirrored(["CPU:0", "CPU:1"])


@pytest.fixture(scope="module")
def initial(one) -> list[np.ndarray]:
    """Returns the weights before the first step, which depend only on the seed."""
    return train_state.create_train_state(one, factories.experiment(), 20, 1000).model.get_weights()


class StepRecords(NamedTuple):
    """State after three steps, and the metrics of each step and the weights after it."""

    state: train_state.TrainState
    metrics: list[train_step.StepMetrics]
    weights: list[list[np.ndarray]]


def take_three_steps(strategy: tf.distribute.Strategy, faces) -> StepRecords:
    end, take_step = factories.begin_training(strategy, factories.augmented_experiment(ema_decay=0.999), faces, 3)
    records = [(take_step(), end.model.get_weights()) for _ in range(3)]
    return StepRecords(end, *map(list, zip(*records)))


@pytest.fixture(scope="module")
def on_one(one, faces) -> StepRecords:
    return take_three_steps(one, faces)


def test_train_step_on_two_replicas_gives_weights_of_one(two, faces, initial, on_one):
    """Guarantee 2 with synchronised statistics, augmentation and dropout: within 1e-5 in float32."""
    check_equal(take_three_steps(two, faces), on_one, initial)


def test_train_step_built_for_gpus_gives_same_weights(two, faces, initial, on_one):
    with as_on_gpu():
        found = take_three_steps(two, faces)
    assert isinstance(found.state.optimizer, packed.SGD)
    check_equal(found, on_one, initial)
    for ours, theirs in zip(found.state.ema_weights, on_one.state.ema_weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5, err_msg=ours.name)


def check_equal(on_two: StepRecords, on_one: StepRecords, initial: list[np.ndarray]) -> None:
    """Checks that the steps of two replicas equal those of one, and that they changed the weights."""
    single, double, moved = on_one.state, on_two.state, 0.0
    for ours, theirs, before in zip(double.model.weights, single.model.weights, initial):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5, err_msg=ours.name)
        moved = max(moved, np.abs(theirs.numpy() - before).max())
    assert moved > 0.01
    assert float(double.loss.result()) == pytest.approx(float(single.loss.result()), abs=1e-5)
    assert float(double.accuracy.result()) == pytest.approx(float(single.accuracy.result()))
    np.testing.assert_allclose(on_two.metrics, on_one.metrics, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "weights",
    [pytest.param(None, marks=pytest.mark.extended), np.linspace(0.5, 2, 7, dtype=np.float32)],
    ids=["unweighted", "weighted"],
)
def test_loss_is_weighted_smoothed_cross_entropy_averaged_over_global_batch(one, faces, weights):
    settings = factories.experiment(ema_decay=0.0)
    settings.augment.policy, settings.model.dropout = "none", 0.0
    before = train_state.create_train_state(one, settings, 20, 1000)
    batch = next(iter(pipeline.training_batches(faces, BatchSchedule(settings.seed, factories.BATCH, 0, 1, 1, [0]))))
    logits = before.model(batch.images, training=True).numpy().astype(np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(7)[batch.labels.numpy()] * 0.9 + 0.1 / 7
    factors = np.ones(factories.BATCH) if weights is None else weights[batch.labels.numpy()]
    expected = -(factors * (targets * log_probabilities).sum(axis=1)).mean()
    after = factories.train_steps(one, settings, faces, 1, weights)
    assert float(after.loss.result()) == pytest.approx(expected, rel=1e-4)


def compute_overfit_loss(one, faces, precision: str) -> float:
    """Returns the mean loss of the last five of twenty steps on the same eight faces."""
    eight = dataclasses.replace(faces, images=faces.images[:8], labels=faces.labels[:8], rows=faces.rows[:8])
    settings = factories.experiment(precision=precision, ema_decay=0.0, global_batch_size=8)
    settings.augment.policy, settings.model.dropout, settings.optimizer.learning_rate = "none", 0.0, 0.05
    trained, take_step = factories.begin_training(one, settings, eight, 20)
    losses = [float(take_step().loss) for _ in range(20)]
    assert {weight.dtype for weight in trained.model.weights} == {tf.float32}
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    return float(np.mean(losses[-5:]))


@pytest.fixture(scope="module")
def loss_in_float32(one, faces) -> float:
    return compute_overfit_loss(one, faces, "float32")


@pytest.mark.parametrize("precision", marks.HALF_PRECISIONS)
def test_precision_reaches_loss_of_float32(one, faces, loss_in_float32, precision):
    """Overfits eight faces: the mean loss of the last five steps is within 5 % of that in float32."""
    assert compute_overfit_loss(one, faces, precision) == pytest.approx(loss_in_float32, rel=0.05)


@marks.needs_float16
def test_loss_scale_halves_and_updates_are_skipped_until_gradients_fit_float16(one, faces):
    """The scale starts at 2^30 and is halved in each step; weights change once the gradients fit into float16."""
    settings = factories.experiment(
        precision="mixed_float16", ema_decay=0.0, global_batch_size=4
    )  # float16 is slow on CPUs
    trained = train_state.create_train_state(one, settings, 20, 1000)
    trained.optimizer._loss_scale._current_loss_scale.assign(2.0**30)  # the optimizer has no public setter
    before = [weight.numpy() for weight in trained.model.trainable_weights]
    take_step, batches = (
        train_step.make_train_step(train_step.StepContext(one, trained, settings)),
        device_iterator.DeviceIterator(one, faces, settings, 0, 20),
    )
    scales, moved = [float(trained.optimizer.loss_scale)], []
    for _ in range(20):
        loss = take_step(next(batches)).loss
        assert np.isfinite(loss)
        scales.append(float(trained.optimizer.loss_scale))
        moved.append(any((w.numpy() != old).any() for w, old in zip(trained.model.trainable_weights, before)))
    skipped = moved.index(True)
    assert skipped > 5
    assert all(moved[skipped:])
    np.testing.assert_array_equal(scales[: skipped + 1], 2.0 ** (30 - np.arange(skipped + 1)))
    assert scales[-1] >= 2.0**8
    assert int(trained.step) == 20


def test_ema_weights_follow_their_formula(initial, on_one):
    for place, (before, average) in enumerate(zip(initial, on_one.state.average.weights)):
        expected = before
        for number, weights in enumerate(on_one.weights, 1):
            decay = (1 + number) / (10 + number)  # warmup of the decay, below 0.999 in the first steps
            expected = decay * expected + (1 - decay) * weights[place]
        np.testing.assert_allclose(average.numpy(), expected, rtol=1e-4, atol=1e-6, err_msg=average.name)


def test_train_state_average_is_the_model_when_ema_decay_is_zero(one):
    state = train_state.create_train_state(one, factories.experiment(ema_decay=0.0), 20, 1000)
    assert state.average is state.model


@pytest.fixture(scope="module")
def plain(one, faces) -> train_state.TrainState:
    """Returns the state after two steps with frozen batch statistics and without dropout."""
    return factories.train_steps(one, make_frozen_statistics_experiment(), faces, 2)


def make_frozen_statistics_experiment(**train) -> Experiment:
    """Makes an experiment with frozen batch statistics and without dropout."""
    experiment = factories.experiment(ema_decay=0.0, **train)
    experiment.model.dropout = 0.0
    experiment.finetune.freeze_batch_norm = True
    return experiment


@pytest.mark.parametrize("settings", [{"gradient_accumulation_steps": 2}, {"jit_compile": True}])
def test_train_step_gives_same_weights_with_accumulation_or_jit_compile(one, faces, plain, settings):
    """Batch statistics are frozen and dropout is off, because both depend on how the batch is divided."""
    other = factories.train_steps(one, make_frozen_statistics_experiment(**settings), faces, 2)
    for ours, theirs in zip(other.model.weights, plain.model.weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-3, atol=1e-5, err_msg=ours.name)


def test_sam_changes_the_weights(one, faces, plain):
    settings = make_frozen_statistics_experiment()
    settings.optimizer.sam_rho = 0.5
    aware = factories.train_steps(one, settings, faces, 2)
    assert np.isfinite(float(aware.loss.result()))
    distances = [np.abs(a.numpy() - b.numpy()).max() for a, b in zip(aware.model.weights, plain.model.weights)]
    assert max(distances) > 1e-4


@pytest.mark.extended
def test_sam_on_two_replicas_gives_weights_of_one(one, two, faces):
    settings = factories.augmented_experiment(ema_decay=0.0)
    settings.model.name = "compact"  # in a smaller network, rounding errors grow faster at so large a rho
    plain = factories.train_steps(one, settings, faces, 2)
    settings.optimizer.sam_rho = 0.5
    single, double = factories.train_steps(one, settings, faces, 2), factories.train_steps(two, settings, faces, 2)
    for ours, theirs in zip(double.model.weights, single.model.weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5, err_msg=ours.name)
    distances = [np.abs(a.numpy() - b.numpy()).max() for a, b in zip(single.model.weights, plain.model.weights)]
    assert max(distances) > 1e-4


def test_train_step_changes_only_the_head_when_backbone_is_frozen(one, faces, initial):
    settings = factories.experiment(ema_decay=0.0)
    settings.finetune.head_only_epochs = 1
    after = factories.train_steps(one, settings, faces, 2)
    changed = {new.name for old, new in zip(initial, after.model.weights) if (old != new.numpy()).any()}
    assert changed == {"logits/kernel:0", "logits/bias:0"}


@pytest.mark.extended
@marks.needs_float16
def test_keras_cv_backend_trains_in_mixed_precision_on_two_replicas(two, faces, initial):
    settings = factories.experiment(precision="mixed_float16")
    settings.augment.backend, settings.augment.policy = "keras_cv", "flip|randaugment(2,9)|mixup(0.2)|cutmix(1.0)"
    trained = factories.train_steps(two, settings, faces, 2)
    assert np.isfinite(float(trained.loss.result()))
    moved = [np.abs(now.numpy() - before).max() for now, before in zip(trained.model.weights, initial)]
    assert max(moved) > 1e-4


def run_steps(names: list[str], faces, counts: list[int], max_steps: int) -> tuple[list[np.ndarray], list, float]:
    """Trains with one call for each of `counts`. Returns the weights, the metrics of each step and seconds waited."""
    strategy, settings = make_mirrored(names), factories.experiment()
    state = train_state.create_train_state(strategy, settings, 20, 1000)
    batches = device_iterator.DeviceIterator(strategy, faces, settings, 0, sum(counts))
    step = train_step.make_train_step(train_step.StepContext(strategy, state, settings))
    call = train_step.make_multi_step(batches, step, max_steps)
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


def test_multi_step_raises_storage_error_when_data_disappears_within_a_call(faces, monkeypatch):
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
    call = train_step.make_multi_step(
        batches, lambda batch: train_step.StepMetrics(*[tf.cast(batch.labels[0], tf.float32)] * 2), 4
    )
    with pytest.raises(StorageError, match=r"can no longer be read .*nowhere"):
        call(4)
