"""Groups and freezing."""

import numpy as np
import pytest
import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.models import classifier, dropout, finetuning

SETTINGS = Model(name="compact_s", image_size=24)
FACES = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)


@pytest.fixture
def model() -> tf.keras.Model:
    return classifier.build(SETTINGS, "float32")


def trained(model: tf.keras.Model) -> set:
    return {
        group.name
        for group in finetuning.groups(model, SETTINGS)
        if any(layer.trainable_weights for layer in group.layers)
    }


def test_groups_go_from_input_to_output(model):
    names = [group.name for group in finetuning.groups(model, SETTINGS)]
    stages = ["stem", "half", "half_again", "quarter", "quarter_residual", "eighth", "eighth_residual"]
    assert names == [*stages, "head"]


def test_the_head_alone_can_be_trained(model):
    finetuning.set_trainable(model, SETTINGS, "head", batch_norm=True)
    assert [weight.shape.as_list() for weight in model.trainable_weights] == [[128, 7], [7]]


def test_the_last_blocks_can_be_trained_and_then_everything(model):
    finetuning.set_trainable(model, SETTINGS, "eighth", batch_norm=True)
    assert trained(model) == {"eighth", "eighth_residual", "head"}
    finetuning.set_trainable(model, SETTINGS, "stem", batch_norm=True)
    assert len(model.trainable_weights) == len(classifier.build(SETTINGS, "float32").trainable_weights)


@pytest.mark.parametrize(
    "settings", [SETTINGS, Model(name="keras_cv/efficientnetv2_b0", image_size=32)], ids=["plain", "composite"]
)
def test_frozen_batch_norm_neither_learns_nor_moves_its_statistics(settings):
    model = classifier.build(settings, "float32")
    finetuning.set_trainable(model, settings, "stem", batch_norm=False)
    assert not [weight.name for weight in model.trainable_weights if "gamma" in weight.name or "beta" in weight.name]
    before = [weight.numpy() for weight in model.non_trainable_weights]
    with dropout.drawn_from(tf.constant([0, 0]), tf.range(4), 4):
        model(FACES, training=True)
    for old, new in zip(before, model.non_trainable_weights):
        np.testing.assert_array_equal(old, new.numpy())


def test_frozen_batch_norm_on_a_gpu_computes_the_same_by_plain_operations(monkeypatch):
    """There the gradient of the fused operation is refused in a deterministic run."""
    fused, plain = (classifier.build(SETTINGS, "float32") for _ in range(2))
    finetuning.set_trainable(fused, SETTINGS, "stem", batch_norm=False)
    monkeypatch.setattr(finetuning.tf.config, "list_logical_devices", lambda kind: ["one"])
    finetuning.set_trainable(plain, SETTINGS, "stem", batch_norm=False)
    of_kind = [part for part in plain.submodules if isinstance(part, tf.keras.layers.BatchNormalization)]
    assert of_kind
    assert not any(part.fused for part in of_kind)
    monkeypatch.undo()
    faces = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), np.uint8)
    np.testing.assert_allclose(plain(faces), fused(faces), atol=1e-4)


def test_an_unknown_group_is_named(model):
    with pytest.raises(UserError, match="no group of layers 'eigth'; the nearest is eighth"):
        finetuning.set_trainable(model, SETTINGS, "eigth", batch_norm=True)
