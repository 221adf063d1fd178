"""What is trained in which phase, and how fast."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import FineTune
from fer.errors import UserError
from fer.models import classifier
from fer.train import devices, finetuning
from fer.train.finetuning import Rate
from tests.train import made


@pytest.fixture
def settings():
    experiment = made.experiment()
    experiment.finetune = FineTune(head_epochs=1, layer_decay=0.5)
    return experiment


@pytest.fixture
def model(settings) -> tf.keras.Model:
    return classifier.build(settings.model, "float32")


def test_without_settings_everything_is_trained_alike(settings, model):
    settings.finetune = FineTune()
    assert finetuning.begin(model, settings, head_only=False) is None


def test_the_head_alone_is_trained_first_at_the_full_rate(settings, model):
    rates = finetuning.begin(model, settings, head_only=True)
    assert {rate.variable.name for rate in rates} == {"logits/kernel:0", "logits/bias:0"}
    assert {rate.share for rate in rates} == {1.0}


def test_then_every_block_learns_slower_than_the_one_above_it(settings, model):
    rates = finetuning.begin(model, settings, head_only=False)
    shares = sorted({rate.share for rate in rates})
    assert shares == [0.5 ** (len(shares) - 1 - place) for place in range(len(shares))]
    assert len(shares) > 3
    assert len(rates) == len(model.trainable_variables)


def test_blocks_below_the_topmost_stay(settings, model):
    settings.finetune.blocks = 1
    few = finetuning.begin(model, settings, head_only=False)
    settings.finetune.blocks = 0
    everything = finetuning.begin(model, settings, head_only=False)
    assert 2 < len(few) < len(everything)
    assert {rate.share for rate in few} == {1.0, 0.5}


def test_more_blocks_than_there_are_is_a_sentence(settings, model):
    settings.finetune.blocks = 99
    with pytest.raises(UserError, match=r"config\.finetune\.blocks is 99, but compact_s has 7"):
        finetuning.begin(model, settings, head_only=False)


@pytest.mark.parametrize("names", [["CPU:0"], ["CPU:0", "CPU:1"]])
def test_an_update_moves_a_variable_by_its_share(names):
    strategy = devices.mirrored(names)
    with strategy.scope():
        variable = tf.Variable([1.0, 2.0])

    @tf.function
    def update():
        with finetuning.slowed(strategy, [Rate(variable, 0.25)]):
            strategy.extended.update(variable, lambda weight: weight.assign_add([4.0, -8.0]))

    update()
    for value in strategy.experimental_local_results(variable):
        np.testing.assert_allclose(value, [2.0, 0.0])
