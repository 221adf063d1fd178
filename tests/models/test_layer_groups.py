"""Groups and freezing."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.models import classifier, dropout, layer_groups, registry
from fer.rng import BatchRng

SETTINGS = Model(name="tiny", image_size=24)
FACES = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)


@pytest.fixture
def model() -> tf.keras.Model:
    return classifier.build(SETTINGS, "float32")


class Composite(tf.keras.layers.Layer):
    """Layer with its own BatchNormalization, like KerasCV's blocks."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self.convolution = tf.keras.layers.Conv2D(4, 3)
        self.norm = tf.keras.layers.BatchNormalization()

    def call(self, inputs, training=None):
        return self.norm(self.convolution(inputs), training=training)


@pytest.fixture
def composite(monkeypatch) -> None:
    """Registers the backbone `composite`, which is one Composite."""

    def build(side: int, channels: int) -> tf.keras.Model:
        inputs = tf.keras.Input([side, side, channels])
        return tf.keras.Model(inputs, Composite(name="block")(inputs), name="composite")

    entry = dataclasses.replace(registry.BACKBONES["tiny"], build=build, block_end_pattern="(block)")
    monkeypatch.setitem(registry.BACKBONES, "composite", entry)


def trained(model: tf.keras.Model) -> set:
    return {
        group.name
        for group in layer_groups.groups(model, SETTINGS)
        if any(layer.trainable_weights for layer in group.layers)
    }


def test_groups_go_from_input_to_output():
    settings = Model(name="compact_s", image_size=24)
    names = [group.name for group in layer_groups.groups(classifier.build(settings, "float32"), settings)]
    stages = ["stem", "half", "half_again", "quarter", "quarter_residual", "eighth", "eighth_residual"]
    assert names == [*stages, "head"]


def test_set_trainable_trains_head_alone(model):
    layer_groups.set_trainable(model, SETTINGS, "head", batch_norm=True)
    assert [weight.shape.as_list() for weight in model.trainable_weights] == [[16, 7], [7]]


def test_set_trainable_trains_last_blocks_then_everything(model):
    layer_groups.set_trainable(model, SETTINGS, "quarter", batch_norm=True)
    assert trained(model) == {"quarter", "head"}
    layer_groups.set_trainable(model, SETTINGS, "half", batch_norm=True)
    assert len(model.trainable_weights) == len(classifier.build(SETTINGS, "float32").trainable_weights)


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        (SETTINGS, "half"),
        (Model(name="composite", image_size=24), "block"),
        pytest.param(Model(name="keras_cv/efficientnetv2_b0", image_size=32), "stem", marks=pytest.mark.extended),
    ],
    ids=["plain", "composite", "composite of KerasCV"],
)
@pytest.mark.usefixtures("composite")
def test_frozen_batch_norm_neither_learns_nor_moves_its_statistics(settings, first):
    model = classifier.build(settings, "float32")
    layer_groups.set_trainable(model, settings, first, batch_norm=False)
    assert not [weight.name for weight in model.trainable_weights if "gamma" in weight.name or "beta" in weight.name]
    before = [weight.numpy() for weight in model.non_trainable_weights]
    with dropout.dropout_rng(BatchRng(tf.constant([0, 0]), tf.range(4), 4)):
        model(FACES, training=True)
    for old, new in zip(before, model.non_trainable_weights):
        np.testing.assert_array_equal(old, new.numpy())


def test_frozen_batch_norm_on_a_gpu_computes_the_same_by_plain_operations(monkeypatch):
    """On a GPU the gradient of the fused op raises in a deterministic run."""
    fused, plain = (classifier.build(SETTINGS, "float32") for _ in range(2))
    layer_groups.set_trainable(fused, SETTINGS, "half", batch_norm=False)
    monkeypatch.setattr(layer_groups.tf.config, "list_logical_devices", lambda kind: ["one"])
    layer_groups.set_trainable(plain, SETTINGS, "half", batch_norm=False)
    of_kind = [part for part in plain.submodules if isinstance(part, tf.keras.layers.BatchNormalization)]
    assert of_kind
    assert not any(part.fused for part in of_kind)
    monkeypatch.undo()
    faces = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), np.uint8)
    np.testing.assert_allclose(plain(faces), fused(faces), atol=1e-4)


def test_set_trainable_error_names_unknown_group(model):
    with pytest.raises(UserError, match="no group of layers 'quartr'; the nearest is quarter"):
        layer_groups.set_trainable(model, SETTINGS, "quartr", batch_norm=True)
