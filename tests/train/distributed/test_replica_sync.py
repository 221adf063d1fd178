"""What each replica keeps for itself is alike at the end of a step, so that a checkpoint is the whole truth."""

import json
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from fer.data import example_codec, pipeline
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


def unsynchronised(**train):
    settings = factories.experiment(**train)
    settings.model.sync_batch_norm, settings.augment.policy = False, "none"
    return settings


def test_replicas_statistics_are_averaged_and_every_replica_holds_the_same_bits(two, faces):
    settings = unsynchronised()
    state, go = factories.begin_training(two, settings, faces, 3)
    first = {layer.name: layer for layer in state.model.submodules if getattr(layer, "name", "").startswith("half_")}
    network = next(layer for layer in state.model.layers if isinstance(layer, tf.keras.Model))
    until = tf.keras.Model(state.model.input, network.inbound_nodes[-1].input_tensors)
    batch = next(iter(pipeline.training_batches(faces, settings.seed, factories.BATCH, 0, 1, 1, [0])))
    halves = [first["half_conv"](until(half)).numpy() for half in tf.split(batch.images, 2)]
    means = np.mean([half.mean(axis=(0, 1, 2)) for half in halves], axis=0)
    variances = np.mean([half.var(axis=(0, 1, 2), ddof=1) for half in halves], axis=0)  # fused: unbiased
    go()
    statistics = first["half_bn"]
    np.testing.assert_allclose(statistics.moving_mean.numpy(), 0.05 * means, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(statistics.moving_variance.numpy(), 0.95 + 0.05 * variances, rtol=1e-3)
    for _ in range(2):
        go()
    variables = [*state.model.variables, *state.average.variables, *state.loss.variables, *state.accuracy.variables]
    for variable in variables:
        ours, theirs = (each.numpy() for each in two.experimental_local_results(variable))
        np.testing.assert_array_equal(ours, theirs, err_msg=variable.name)
    assert state.loss.count.numpy() == 3 * factories.BATCH  # counted once, not once a replica


def first_step(strategy: tf.distribute.Strategy, settings, faces) -> list[np.ndarray]:
    """The gradients of the first step, and its loss."""
    state, seed = factories.train_steps(strategy, settings, faces, 0), tf.constant([settings.seed, 0])
    trained = state.model.trainable_variables

    def of_replica(batch):
        inputs = train_step.prepare_inputs(batch, seed, settings, True)
        return train_step.compute_gradients(state, settings, trained, None, inputs, seed)

    batch = next(device_iterator.DeviceIterator(strategy, faces, settings, 0, 1))
    found = tf.function(lambda batch: strategy.run(of_replica, args=(batch,)))(batch)
    return [strategy.experimental_local_results(each)[0].numpy() for each in tf.nest.flatten(found)]


@pytest.mark.extended
def test_gradients_are_those_of_one_replica(two, faces):
    """Promise 2 at its root: augmented, with dropout and synchronised statistics, within 1e-5."""
    settings = factories.augmented_experiment(ema_decay=0.0)
    expected = first_step(tf.distribute.OneDeviceStrategy("CPU:0"), settings, faces)
    for ours, theirs in zip(first_step(two, settings, faces), expected):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert max(np.abs(value).max() for value in expected) > 0.1


@pytest.mark.extended
def test_a_run_on_two_replicas_goes_on_to_the_same_bits(synthetic_shards, tmp_path):
    settings = unsynchronised(steps=6, checkpoint_steps=2, replicas=2, ema_decay=0.9)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trainer.train(settings, synthetic_shards.folder, str(whole), "mirrored")
    shutil.copytree(whole, cut)
    for number in (4, 6):  # as if it had been killed after step 3
        shutil.rmtree(cut / "checkpoints" / f"step-{number:08d}")
    trainer.train(settings, synthetic_shards.folder, str(cut), "mirrored")
    assert checkpoints.list_steps(str(cut / "checkpoints")) == [2, 4, 6]
    expected, found = final_state(whole, 6), final_state(cut, 6)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    histories = [json.loads((run / "history.json").read_text()) for run in (whole, cut)]
    for figure in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        assert [entry[figure] for entry in histories[0]] == [entry[figure] for entry in histories[1]], figure


@pytest.mark.parametrize(("field", "value"), [("accumulation", 2), ("jit_compile", True)])
def test_replicas_that_cannot_confer_within_a_layer_are_told_so(two, field, value):
    settings = factories.experiment(**{field: value})
    with pytest.raises(UserError, match=f"2 replicas communicate in every layer, .* set config.train.{field}="):
        replica_sync.check_sync_batch_norm(two, settings)
    replica_sync.check_sync_batch_norm(tf.distribute.OneDeviceStrategy("CPU:0"), settings)
    settings.model.sync_batch_norm = False
    replica_sync.check_sync_batch_norm(two, settings)


@pytest.mark.parametrize(("before", "said"), [(1, "trained on 1 replicas, and the next is on 2"), (2, "")])
def test_going_on_with_another_number_of_replicas_is_told(two, capsys, before, said):
    trainer.Trainer._report_changed_replicas(types.SimpleNamespace(strategy=two, history=[{"replicas": before}]))
    told = capsys.readouterr().out
    assert said in told
    assert bool(told) == bool(said)
