"""Checks the variables of the training state."""

import pytest
import tensorflow as tf

from fer.models import classifier, weights
from fer.train import train_state
from fer.train.distributed.strategy import make_mirrored
from tests.train import factories


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_train_state_variables_are_exactly_those_of_its_parts(tmp_path, ema_decay, pretrained):
    """Variables of temporary networks would stay in memory and be sent between workers."""
    settings = factories.experiment(ema_decay=ema_decay)
    if pretrained:
        backbone = classifier.get_backbone(classifier.build(settings.model, "float32"))
        weights.save(backbone.weights, str(tmp_path / "backbone.npz"))
        settings.model.weights = str(tmp_path / "backbone.npz")
    found = train_state.create_train_state(tf.distribute.OneDeviceStrategy("CPU:0"), settings, 20, 100)
    optimizer = found.optimizer.variables
    parts = [found.model.weights, found.average.weights, optimizer() if callable(optimizer) else optimizer]
    parts += [found.loss.variables, found.accuracy.variables]
    references = [variable.ref() for variable in found.variables]
    assert len(set(references)) == len(references)
    missing = {variable.ref() for part in parts for variable in part} - set(references)
    assert not missing
    assert len(references) <= len({variable.ref() for part in parts for variable in part}) + 1  # and the learning rate


@pytest.mark.parametrize("devices", [["CPU:1"], ["CPU:0", "CPU:1"]], ids=["one", "mirrored"])
def test_train_state_keeps_step_on_the_host(devices):
    """The seeds of a step depend on its number: on a GPU, every step would wait for the one before."""
    one = len(devices) == 1
    strategy = tf.distribute.OneDeviceStrategy(devices[0]) if one else make_mirrored(devices)
    found = train_state.create_train_state(strategy, factories.experiment(), 20, 100)
    assert found.step.device.endswith("CPU:0")
    assert found.model.trainable_variables[0].device.endswith(devices[0])
    assert found.step.ref() not in {variable.ref() for variable in found.variables}
