"""Checks that the variables of all replicas are identical after a step, so that a checkpoint holds the full state."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from fer.data import example_codec, pipeline
from fer.data.sampling import BatchSchedule
from fer.errors import UserError
from fer.train import checkpoints, device_iterator, train_step, trainer
from fer.train.distributed import replica_sync
from fer.train.distributed.strategy import make_mirrored
from tests.train import factories
from tests.train.test_trainer import final_state


@pytest.fixture(scope="module")
def faces(synthetic_shards):
    return example_codec.read_split(synthetic_shards, "train")


@pytest.fixture(scope="module")
def two() -> tf.distribute.Strategy:
    return make_mirrored(["CPU:0", "CPU:1"])


def make_unsynchronised_settings(**train):
    settings = factories.experiment(**train)
    settings.model.sync_batch_norm, settings.augment.policy = False, "none"
    return settings


def test_replica_statistics_are_averaged_and_identical_on_every_replica(two, faces):
    settings = make_unsynchronised_settings()
    state, take_step = factories.begin_training(two, settings, faces, 3)
    layers = {layer.name: layer for layer in state.model.submodules if getattr(layer, "name", "").startswith("half_")}
    network = next(layer for layer in state.model.layers if isinstance(layer, tf.keras.Model))
    backbone_input = tf.keras.Model(state.model.input, network.inbound_nodes[-1].input_tensors)
    batch = next(iter(pipeline.training_batches(faces, BatchSchedule(settings.seed, factories.BATCH, 0, 1, 1, [0]))))
    halves = [layers["half_conv"](backbone_input(half)).numpy() for half in tf.split(batch.images, 2)]
    means = np.mean([half.mean(axis=(0, 1, 2)) for half in halves], axis=0)
    variances = np.mean([half.var(axis=(0, 1, 2), ddof=1) for half in halves], axis=0)  # the fused op's is unbiased
    take_step()
    statistics = layers["half_bn"]
    np.testing.assert_allclose(statistics.moving_mean.numpy(), 0.05 * means, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(statistics.moving_variance.numpy(), 0.95 + 0.05 * variances, rtol=1e-3)
    for _ in range(2):
        take_step()
    variables = [*state.model.variables, *state.average.variables, *state.loss.variables, *state.accuracy.variables]
    for variable in variables:
        ours, theirs = (each.numpy() for each in two.experimental_local_results(variable))
        np.testing.assert_array_equal(ours, theirs, err_msg=variable.name)
    assert state.loss.count.numpy() == 3 * factories.BATCH  # counted once, not once per replica


def first_step(strategy: tf.distribute.Strategy, settings, faces) -> list[np.ndarray]:
    """Returns the gradients of the first step and its loss."""
    state, seed = factories.train_steps(strategy, settings, faces, 0), tf.constant([settings.seed, 0])
    context = train_step.StepContext(strategy, state, settings)

    def of_replica(batch):
        inputs = train_step.prepare_inputs(context, batch, seed)
        return train_step.compute_gradients(context, inputs, seed)

    batch = next(device_iterator.DeviceIterator(strategy, faces, settings, 0, 1))
    found = tf.function(lambda batch: strategy.run(of_replica, args=(batch,)))(batch)
    return [strategy.experimental_local_results(each)[0].numpy() for each in tf.nest.flatten(found)]


@pytest.mark.extended
def test_gradients_of_two_replicas_match_one_replica(two, faces):
    """Guarantee 2 for one step: with augmentation, dropout and synchronised statistics, within 1e-5."""
    settings = factories.augmented_experiment(ema_decay=0.0)
    expected = first_step(tf.distribute.OneDeviceStrategy("CPU:0"), settings, faces)
    for ours, theirs in zip(first_step(two, settings, faces), expected):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert max(np.abs(value).max() for value in expected) > 0.1


@pytest.mark.extended
def test_run_on_two_replicas_resumes_to_same_bits(synthetic_shards, tmp_path):
    settings = make_unsynchronised_settings(max_steps=6, save_every_steps=2, num_replicas=2, ema_decay=0.9)
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    trainer.train(settings, synthetic_shards.folder, str(uninterrupted), "mirrored")
    shutil.copytree(uninterrupted, resumed)
    for number in (4, 6):  # simulates a kill after step 3
        shutil.rmtree(resumed / "checkpoints" / f"step-{number:08d}")
    trainer.train(settings, synthetic_shards.folder, str(resumed), "mirrored")
    assert checkpoints.list_steps(str(resumed / "checkpoints")) == [2, 4, 6]
    expected, found = final_state(uninterrupted, 6), final_state(resumed, 6)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    histories = [json.loads((run / "history.json").read_text()) for run in (uninterrupted, resumed)]
    for metric in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        assert [entry[metric] for entry in histories[0]] == [entry[metric] for entry in histories[1]], metric


@pytest.mark.parametrize(("field", "value"), [("gradient_accumulation_steps", 2), ("jit_compile", True)])
def test_check_sync_batch_norm_rejects_option_that_prevents_communication(two, field, value):
    settings = factories.experiment(**{field: value})
    with pytest.raises(UserError, match=f"2 replicas communicate in every layer, .* set config.train.{field}="):
        replica_sync.check_sync_batch_norm(two, settings)
    replica_sync.check_sync_batch_norm(tf.distribute.OneDeviceStrategy("CPU:0"), settings)
    settings.model.sync_batch_norm = False
    replica_sync.check_sync_batch_norm(two, settings)


@pytest.mark.parametrize(("before", "message"), [(1, "trained on 1 replicas, and the next is on 2"), (2, "")])
def test_trainer_reports_changed_number_of_replicas(capsys, before, message):
    trainer.report_changed_replicas([{"replicas": before}], 2)
    output = capsys.readouterr().out
    assert message in output
    assert bool(output) == bool(message)


def test_sync_bn_stats_averages_built_layers_and_skips_others(two):
    with two.scope():
        inputs = tf.keras.Input([3])
        model = tf.keras.Model(inputs, tf.keras.layers.BatchNormalization()(inputs))
        model.unused = tf.keras.layers.BatchNormalization()  # has no variables

    @tf.function(autograph=False)
    def step():
        number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
        model.layers[1].moving_mean.assign(tf.fill([3], number))
        replica_sync.sync_bn_stats(model)
        return tf.identity(model.layers[1].moving_mean)

    for own in two.experimental_local_results(two.run(step)):
        np.testing.assert_array_equal(own, [0.5, 0.5, 0.5])
