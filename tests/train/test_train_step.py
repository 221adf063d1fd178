"""One step: the same mathematics on one replica and two, in every precision."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Experiment
from fer.data import example_codec, pipeline
from fer.data.sampling import BatchSchedule
from fer.train import device_iterator, train_state, train_step
from fer.train.distributed.strategy import make_mirrored
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
    """The weights before the first step, which follow from the seed alone."""
    return train_state.create_train_state(one, factories.experiment(), 20, 1000).model.get_weights()


class Path(NamedTuple):
    """Three steps: the state after them, and what each of them told, and the weights after it."""

    state: train_state.TrainState
    told: list[train_step.StepMetrics]
    weights: list[list[np.ndarray]]


def three_steps(strategy: tf.distribute.Strategy, faces) -> Path:
    end, go = factories.begin_training(strategy, factories.augmented_experiment(ema_decay=0.999), faces, 3)
    path = [(go(), end.model.get_weights()) for _ in range(3)]
    return Path(end, *map(list, zip(*path)))


@pytest.fixture(scope="module")
def on_one(one, faces) -> Path:
    return three_steps(one, faces)


def test_two_replicas_end_with_the_weights_of_one(two, faces, initial, on_one):
    """Promise 2, with synchronised statistics, augmentation and dropout: within 1e-5 in float32."""
    on_two = three_steps(two, faces)
    single, double, moved = on_one.state, on_two.state, 0.0
    for ours, theirs, before in zip(double.model.weights, single.model.weights, initial):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5, err_msg=ours.name)
        moved = max(moved, np.abs(theirs.numpy() - before).max())
    assert moved > 0.01
    assert float(double.loss.result()) == pytest.approx(float(single.loss.result()), abs=1e-5)
    assert float(double.accuracy.result()) == pytest.approx(float(single.accuracy.result()))
    np.testing.assert_allclose(on_two.told, on_one.told, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "weights",
    [pytest.param(None, marks=pytest.mark.extended), np.linspace(0.5, 2, 7, dtype=np.float32)],
    ids=["alike", "weighted"],
)
def test_the_loss_is_smoothed_cross_entropy_over_the_global_batch_times_the_classs_weight(one, faces, weights):
    settings = factories.experiment(ema_decay=0.0)
    settings.augment.policy, settings.model.dropout = "none", 0.0
    before = train_state.create_train_state(one, settings, 20, 1000)
    batch = next(iter(pipeline.training_batches(faces, BatchSchedule(settings.seed, factories.BATCH, 0, 1, 1, [0]))))
    logits = before.model(batch.images, training=True).numpy().astype(np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(7)[batch.labels.numpy()] * 0.9 + 0.1 / 7
    factors = np.ones(factories.BATCH) if weights is None else weights[batch.labels.numpy()]
    by_hand = -(factors * (targets * log_probabilities).sum(axis=1)).mean()
    after = factories.train_steps(one, settings, faces, 1, weights)
    assert float(after.loss.result()) == pytest.approx(by_hand, rel=1e-4)


def loss_of_learning_by_heart(one, faces, precision: str) -> float:
    """The mean loss of the last five of twenty steps on the same eight faces."""
    few = dataclasses.replace(faces, images=faces.images[:8], labels=faces.labels[:8], rows=faces.rows[:8])
    settings = factories.experiment(precision=precision, ema_decay=0.0, global_batch=8)
    settings.augment.policy, settings.model.dropout, settings.optimizer.learning_rate = "none", 0.0, 0.05
    trained, go = factories.begin_training(one, settings, few, 20)
    losses = [float(go().loss) for _ in range(20)]
    assert {weight.dtype for weight in trained.model.weights} == {tf.float32}
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    return float(np.mean(losses[-5:]))


@pytest.fixture(scope="module")
def loss_in_float32(one, faces) -> float:
    return loss_of_learning_by_heart(one, faces, "float32")


@pytest.mark.parametrize("precision", ["mixed_float16", pytest.param("mixed_bfloat16", marks=marks.needs_bfloat16)])
def test_a_short_run_in_each_precision_reaches_the_same_loss(one, faces, loss_in_float32, precision):
    """Eight faces learnt by heart: the mean loss of the last five steps, within 5 % of float32's."""
    assert loss_of_learning_by_heart(one, faces, precision) == pytest.approx(loss_in_float32, rel=0.05)


def test_an_overflow_under_float16_skips_updates_until_the_scale_is_low_enough(one, faces):
    """From 2^30 the scale is halved step by step, and nothing moves until gradients fit into float16."""
    settings = factories.experiment(precision="mixed_float16", ema_decay=0.0, global_batch=4)  # float16 is slow on CPUs
    trained = train_state.create_train_state(one, settings, 20, 1000)
    trained.optimizer._loss_scale._current_loss_scale.assign(2.0**30)  # it has no public setter
    before = [weight.numpy() for weight in trained.model.trainable_weights]
    take_step, batches = (
        train_step.make_train_step(one, trained, settings),
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


def test_the_average_moves_as_its_formula_says(initial, on_one):
    for place, (before, average) in enumerate(zip(initial, on_one.state.average.weights)):
        expected = before
        for number, weights in enumerate(on_one.weights, 1):
            decay = (1 + number) / (10 + number)  # the ramp, below 0.999 at the first steps
            expected = decay * expected + (1 - decay) * weights[place]
        np.testing.assert_allclose(average.numpy(), expected, rtol=1e-4, atol=1e-6, err_msg=average.name)


def test_without_averaging_the_model_is_its_own_average(one):
    made_state = train_state.create_train_state(one, factories.experiment(ema_decay=0.0), 20, 1000)
    assert made_state.average is made_state.model


@pytest.fixture(scope="module")
def plain(one, faces) -> train_state.TrainState:
    """After two steps at frozen statistics, without dropout."""
    return factories.train_steps(one, frozen_statistics(), faces, 2)


def frozen_statistics(**train) -> Experiment:
    experiment = factories.experiment(ema_decay=0.0, **train)
    experiment.model.dropout = 0.0
    experiment.finetune.freeze_batch_norm = True
    return experiment


@pytest.mark.parametrize("settings", [{"accumulation": 2}, {"jit_compile": True}])
def test_parts_and_compilation_leave_the_mathematics(one, faces, plain, settings):
    """Without BatchNormalization's statistics of a part and dropout's draws, which are others: at frozen statistics."""
    other = factories.train_steps(one, frozen_statistics(**settings), faces, 2)
    for ours, theirs in zip(other.model.weights, plain.model.weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-3, atol=1e-5, err_msg=ours.name)


def test_sharpness_aware_steps_are_others(one, faces, plain):
    settings = frozen_statistics()
    settings.optimizer.sam_rho = 0.5
    aware = factories.train_steps(one, settings, faces, 2)
    assert np.isfinite(float(aware.loss.result()))
    distances = [np.abs(a.numpy() - b.numpy()).max() for a, b in zip(aware.model.weights, plain.model.weights)]
    assert max(distances) > 1e-4


@pytest.mark.extended
def test_sharpness_aware_steps_are_the_same_on_two_replicas(one, two, faces):
    settings = factories.augmented_experiment(ema_decay=0.0)
    settings.model.name = "compact"  # in the smaller one, rounding grows faster at so long a climb
    plain = factories.train_steps(one, settings, faces, 2)
    settings.optimizer.sam_rho = 0.5
    single, double = factories.train_steps(one, settings, faces, 2), factories.train_steps(two, settings, faces, 2)
    for ours, theirs in zip(double.model.weights, single.model.weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5, err_msg=ours.name)
    distances = [np.abs(a.numpy() - b.numpy()).max() for a, b in zip(single.model.weights, plain.model.weights)]
    assert max(distances) > 1e-4


def test_a_frozen_network_stays_but_for_its_head(one, faces, initial):
    settings = factories.experiment(ema_decay=0.0)
    settings.finetune.head_epochs = 1
    after = factories.train_steps(one, settings, faces, 2)
    changed = {new.name for old, new in zip(initial, after.model.weights) if (old != new.numpy()).any()}
    assert changed == {"logits/kernel:0", "logits/bias:0"}


@pytest.mark.extended
def test_keras_cvs_engine_trains_under_mixed_precision_on_two_replicas(two, faces, initial):
    settings = factories.experiment(precision="mixed_float16")
    settings.augment.engine, settings.augment.policy = "keras_cv", "flip|randaugment(2,9)|mixup(0.2)|cutmix(1.0)"
    trained = factories.train_steps(two, settings, faces, 2)
    assert np.isfinite(float(trained.loss.result()))
    moved = [np.abs(now.numpy() - before).max() for now, before in zip(trained.model.weights, initial)]
    assert max(moved) > 1e-4
