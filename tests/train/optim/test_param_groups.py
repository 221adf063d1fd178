"""Checks which variables are trained in each phase, and at which learning rate."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import FineTune, Model
from fer.errors import UserError
from fer.models import classifier, registry, weights
from fer.train import train_state, train_step
from fer.train.distributed.strategy import make_mirrored
from fer.train.optim import param_groups
from fer.train.optim.param_groups import ParamGroup
from tests.train import factories


@pytest.fixture
def settings():
    experiment = factories.experiment()
    experiment.finetune = FineTune(head_only_epochs=1, layer_decay=0.5)
    return experiment


@pytest.fixture
def model(settings) -> tf.keras.Model:
    return classifier.build(settings.model, "float32")


def test_set_phase_returns_none_without_finetune_settings(settings, model):
    settings.finetune = FineTune()
    assert param_groups.set_phase(model, settings, head_only=False) is None


def test_set_phase_trains_only_the_head_at_full_rate_when_head_only(settings, model):
    groups = param_groups.set_phase(model, settings, head_only=True)
    assert {group.variable.name for group in groups} == {"logits/kernel:0", "logits/bias:0"}
    assert {group.lr_scale for group in groups} == {1.0}


def test_layer_decay_halves_lr_scale_for_each_lower_block(settings, model):
    groups = param_groups.set_phase(model, settings, head_only=False)
    scales = sorted({group.lr_scale for group in groups})
    assert scales == [0.5 ** (len(scales) - 1 - place) for place in range(len(scales))]
    assert len(scales) == 3  # head and two blocks
    assert len(groups) == len(model.trainable_variables)


def test_set_phase_freezes_blocks_below_the_topmost(settings, model):
    settings.finetune.trainable_blocks = 1
    top_block = param_groups.set_phase(model, settings, head_only=False)
    settings.finetune.trainable_blocks = 0
    all_blocks = param_groups.set_phase(model, settings, head_only=False)
    assert 2 < len(top_block) < len(all_blocks)
    assert {group.lr_scale for group in top_block} == {1.0, 0.5}


def test_set_phase_rejects_more_blocks_than_the_model_has(settings, model):
    settings.finetune.trainable_blocks = 99
    with pytest.raises(UserError, match=r"config\.finetune\.trainable_blocks is 99, but tiny has 2"):
        param_groups.set_phase(model, settings, head_only=False)


@pytest.mark.parametrize("devices", [["CPU:0"], ["CPU:0", "CPU:1"]])
def test_scaled_updates_multiply_the_update_by_lr_scale(devices):
    strategy = make_mirrored(devices)
    with strategy.scope():
        variable, optimizer = tf.Variable([1.0, 2.0]), tf.keras.optimizers.SGD()

    @tf.function
    def update():
        with param_groups.scaled_updates(strategy, [ParamGroup(variable, 0.25)], optimizer):
            strategy.extended.update(variable, lambda weight: weight.assign_add([4.0, -8.0]))

    update()
    for value in strategy.experimental_local_results(variable):
        np.testing.assert_allclose(value, [2.0, 0.0])


@pytest.mark.parametrize("frozen_steps", [1, 200])
def test_scaled_updates_restart_adam_bias_correction_of_unfrozen_variables(frozen_steps):
    """The first updates equal those of a new optimizer that starts when the variable is unfrozen."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    random = np.random.default_rng(0)
    head, body, reference = (tf.Variable([0.0, 0.0]) for _ in range(3))
    adam, fresh = (
        tf.keras.optimizers.AdamW(0.01, weight_decay=0.0, epsilon=1e-12, jit_compile=False) for _ in range(2)
    )
    adam.build([head, body])
    for _ in range(frozen_steps):
        adam.apply_gradients([(tf.constant([1.0, 1.0]), head)])

    @tf.function
    def update(gradient):
        with param_groups.scaled_updates(strategy, [ParamGroup(head, 1.0), ParamGroup(body, 1.0, frozen_steps)], adam):
            strategy.run(lambda: adam.apply_gradients([(gradient, head), (gradient, body)]))

    for _ in range(30):
        gradient = tf.constant(random.normal(size=2), tf.float32)
        update(gradient)
        fresh.apply_gradients([(gradient, reference)])
        np.testing.assert_allclose(body, reference, rtol=1e-4)


def test_set_phase_records_frozen_steps_of_unfrozen_variables(settings, model):
    groups = param_groups.set_phase(model, settings, head_only=False, steps_per_epoch=20)
    assert {(group.frozen_steps, group.lr_scale == 1.0) for group in groups} == {(0, True), (20, False)}


@pytest.mark.parametrize("phases", [FineTune(head_only_epochs=1), FineTune(layer_decay=0.9)])
def test_validate_rejects_lookahead_with_finetune_phases(settings, phases):
    settings.finetune, settings.optimizer.name = phases, "radam_lookahead"
    with pytest.raises(UserError, match=r"optimizer\.name.*radam_lookahead.*sgd or adamw with"):
        settings.validate()


def test_validate_rejects_lamb_with_head_epochs(settings):
    settings.optimizer.name = "lamb"
    settings.finetune = FineTune(layer_decay=0.9)
    settings.validate()
    settings.finetune = FineTune(head_only_epochs=1)
    with pytest.raises(UserError, match=r"optimizer\.name.*lamb.*sgd or adamw with finetune\.head_only_epochs"):
        settings.validate()


class Block(tf.keras.layers.Layer):
    """Layer that contains layers, as the blocks of KerasCV do."""

    def __init__(self, name: str, trainable: bool = True, dtype=None):
        super().__init__(trainable, name, dtype)
        self.first, self.scale = tf.keras.layers.Conv2D(4, 3, strides=2), tf.keras.layers.BatchNormalization()
        self.last = tf.keras.layers.Conv2D(4, 1)

    def call(self, x, training=None):
        return self.last(self.scale(self.first(x), training=training))


def nested_blocks(side: int, channels: int) -> tf.keras.Model:
    """Builds a network of two blocks."""
    inputs = tf.keras.Input([side, side, channels])
    return tf.keras.Model(inputs, Block(name="block2")(Block(name="block1")(inputs)), name="nested_blocks")


@pytest.mark.parametrize(
    "network", ["nested_blocks", pytest.param("keras_cv/efficientnetv2_b0", marks=pytest.mark.extended)]
)
@pytest.mark.parametrize("ema_decay", [0.9, 0.0])
def test_weights_of_ema_and_file_keep_their_order_when_nested_layers_are_frozen(
    tmp_path, monkeypatch, ema_decay, network
):
    """Keras reorders the weights of a nested layer once some of its sublayers are frozen."""
    backbone = registry.Backbone(nested_blocks, 32, 32, "unit", r"(block\d)", channels=1)
    monkeypatch.setitem(registry.BACKBONES, "nested_blocks", backbone)
    settings = factories.experiment(ema_decay=ema_decay)
    settings.model = Model(name=network, image_size=32)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    found = train_state.create_train_state(strategy, settings, 20, 100)
    weight_names = [weight.name for weight in found.model.weights]
    param_groups.set_phase(found.model, settings, head_only=False)
    settings.finetune.head_only_epochs = 1
    param_groups.set_phase(found.model, settings, head_only=True)
    assert [weight.name for weight in found.model.weights] != weight_names
    if ema_decay:
        train_step._update_ema(strategy, found, ema_decay)
    path = str(tmp_path / "best.npz")
    weights.save(found.ema_weights, path)
    fresh = classifier.build(settings.model, "float32")
    weights.load(fresh, path)
    for ours, theirs in zip(fresh.weights, found.model_weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, err_msg=ours.name)
