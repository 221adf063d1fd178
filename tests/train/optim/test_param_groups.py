"""What is trained in which phase, and how fast."""

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
    experiment.finetune = FineTune(head_epochs=1, layer_decay=0.5)
    return experiment


@pytest.fixture
def model(settings) -> tf.keras.Model:
    return classifier.build(settings.model, "float32")


def test_without_settings_everything_is_trained_alike(settings, model):
    settings.finetune = FineTune()
    assert param_groups.set_phase(model, settings, head_only=False) is None


def test_the_head_alone_is_trained_first_at_the_full_rate(settings, model):
    rates = param_groups.set_phase(model, settings, head_only=True)
    assert {rate.variable.name for rate in rates} == {"logits/kernel:0", "logits/bias:0"}
    assert {rate.lr_scale for rate in rates} == {1.0}


def test_then_every_block_learns_slower_than_the_one_above_it(settings, model):
    rates = param_groups.set_phase(model, settings, head_only=False)
    shares = sorted({rate.lr_scale for rate in rates})
    assert shares == [0.5 ** (len(shares) - 1 - place) for place in range(len(shares))]
    assert len(shares) == 3  # the head's and those of two blocks
    assert len(rates) == len(model.trainable_variables)


def test_blocks_below_the_topmost_stay(settings, model):
    settings.finetune.blocks = 1
    few = param_groups.set_phase(model, settings, head_only=False)
    settings.finetune.blocks = 0
    everything = param_groups.set_phase(model, settings, head_only=False)
    assert 2 < len(few) < len(everything)
    assert {rate.lr_scale for rate in few} == {1.0, 0.5}


def test_more_blocks_than_there_are_is_a_sentence(settings, model):
    settings.finetune.blocks = 99
    with pytest.raises(UserError, match=r"config\.finetune\.blocks is 99, but tiny has 2"):
        param_groups.set_phase(model, settings, head_only=False)


@pytest.mark.parametrize("names", [["CPU:0"], ["CPU:0", "CPU:1"]])
def test_an_update_moves_a_variable_by_its_share(names):
    strategy = make_mirrored(names)
    with strategy.scope():
        variable, optimizer = tf.Variable([1.0, 2.0]), tf.keras.optimizers.SGD()

    @tf.function
    def update():
        with param_groups.scaled_updates(strategy, [ParamGroup(variable, 0.25)], optimizer):
            strategy.extended.update(variable, lambda weight: weight.assign_add([4.0, -8.0]))

    update()
    for value in strategy.experimental_local_results(variable):
        np.testing.assert_allclose(value, [2.0, 0.0])


@pytest.mark.parametrize("thawed", [1, 200])
def test_a_variable_that_thaws_moves_as_one_that_adam_has_just_begun_with(thawed):
    """Its first steps are as long as those of a variable that an optimizer of its own has moved as often."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    random = np.random.default_rng(0)
    head, body, alone = (tf.Variable([0.0, 0.0]) for _ in range(3))
    adam, fresh = (
        tf.keras.optimizers.AdamW(0.01, weight_decay=0.0, epsilon=1e-12, jit_compile=False) for _ in range(2)
    )
    adam.build([head, body])
    for _ in range(thawed):
        adam.apply_gradients([(tf.constant([1.0, 1.0]), head)])

    @tf.function
    def update(gradient):
        with param_groups.scaled_updates(strategy, [ParamGroup(head, 1.0), ParamGroup(body, 1.0, thawed)], adam):
            strategy.run(lambda: adam.apply_gradients([(gradient, head), (gradient, body)]))

    for _ in range(30):
        gradient = tf.constant(random.normal(size=2), tf.float32)
        update(gradient)
        fresh.apply_gradients([(gradient, alone)])
        np.testing.assert_allclose(body, alone, rtol=1e-4)


def test_what_thaws_after_the_heads_epochs_knows_how_late_it_is(settings, model):
    groups = param_groups.set_phase(model, settings, head_only=False, steps_per_epoch=20)
    assert {(group.frozen_steps, group.lr_scale == 1.0) for group in groups} == {(0, True), (20, False)}


@pytest.mark.parametrize("phases", [FineTune(head_epochs=1), FineTune(layer_decay=0.9)])
def test_lookahead_whose_own_weights_know_no_phases_is_refused_with_them(settings, phases):
    settings.finetune, settings.optimizer.name = phases, "radam_lookahead"
    with pytest.raises(UserError, match=r"optimizer\.name.*radam_lookahead.*sgd or adamw with"):
        settings.validate()


def test_lamb_which_would_move_thawed_variables_too_far_is_refused_with_head_epochs(settings):
    settings.optimizer.name = "lamb"
    settings.finetune = FineTune(layer_decay=0.9)
    settings.validate()
    settings.finetune = FineTune(head_epochs=1)
    with pytest.raises(UserError, match=r"optimizer\.name.*lamb.*sgd or adamw with finetune\.head_epochs"):
        settings.validate()


class Block(tf.keras.layers.Layer):
    """A layer that holds layers, as KerasCV's blocks do."""

    def __init__(self, name: str, trainable: bool = True, dtype=None):
        super().__init__(trainable, name, dtype)
        self.first, self.scale = tf.keras.layers.Conv2D(4, 3, strides=2), tf.keras.layers.BatchNormalization()
        self.last = tf.keras.layers.Conv2D(4, 1)

    def call(self, x, training=None):
        return self.last(self.scale(self.first(x), training=training))


def of_blocks(side: int, channels: int) -> tf.keras.Model:
    inputs = tf.keras.Input([side, side, channels])
    return tf.keras.Model(inputs, Block(name="block2")(Block(name="block1")(inputs)), name="of_blocks")


@pytest.mark.parametrize(
    "network", ["of_blocks", pytest.param("keras_cv/efficientnetv2_b0", marks=pytest.mark.extended)]
)
@pytest.mark.parametrize("ema_decay", [0.9, 0.0])
def test_a_network_whose_blocks_hold_layers_is_averaged_and_kept_in_its_own_order_while_it_is_frozen(
    tmp_path, monkeypatch, ema_decay, network
):
    """Keras lists the weights of such a block in another order once some of its layers are frozen."""
    backbone = registry.Backbone(of_blocks, 32, 32, "unit", r"(block\d)", channels=1)
    monkeypatch.setitem(registry.BACKBONES, "of_blocks", backbone)
    settings = factories.experiment(ema_decay=ema_decay)
    settings.model = Model(name=network, image_size=32)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    found = train_state.create_train_state(strategy, settings, 20, 100)
    names = [weight.name for weight in found.model.weights]
    param_groups.set_phase(found.model, settings, head_only=False)
    settings.finetune.head_epochs = 1
    param_groups.set_phase(found.model, settings, head_only=True)
    assert [weight.name for weight in found.model.weights] != names
    if ema_decay:
        train_step._update_ema(strategy, found, ema_decay)
    path = str(tmp_path / "best.npz")
    weights.save(found.ema_weights, path)
    fresh = classifier.build(settings.model, "float32")
    weights.load(fresh, path)
    for ours, theirs in zip(fresh.weights, found.model_weights):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, err_msg=ours.name)
