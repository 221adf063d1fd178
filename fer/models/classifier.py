"""The classifier: uint8 faces in, float32 logits out, whatever backbone is between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.labels import CLASSES
from fer.models import registry
from fer.models.dropout import PositionalDropout

SIDE = 48  # of a face as it comes from the shards
HEAD_SALT = 1_000_000  # beyond the number of any backbone's own dropout layers

layers = tf.keras.layers


def build(config: Model, precision: str, seed: int = 0) -> tf.keras.Model:
    """A classifier with weights drawn from `seed`.

    Args:
      config: which network, at what size.
      precision: float32, mixed_bfloat16 or mixed_float16: what the backbone computes in.
      seed: of the initial weights.

    Returns:
      A model from uint8 [B, 48, 48, 1] to logits float32 [B, 7], in the order of `fer.labels.CLASSES`.

    Raises:
      UserError: no such backbone, or an image size below what it needs.
    """
    chosen = registry.backbone(config.name)
    if config.image_size < chosen.smallest:
        raise UserError(
            f"config.model.image_size is {config.image_size}; {config.name} needs {chosen.smallest} or more."
        )
    tf.keras.utils.set_random_seed(seed)  # the initial weights are the only thing drawn from Keras' global state
    with _policy(precision):
        # Faces are 48x48; an augmenter may have cut them smaller, which a network that takes them as they are allows.
        faces = tf.keras.Input([None, None, 1], dtype="uint8", name="faces")
        x = layers.Rescaling(chosen.scale, chosen.offset, dtype="float32", name="pixels")(faces)
        side = None if chosen.any_size and config.image_size == SIDE else config.image_size
        if side:
            x = layers.Resizing(config.image_size, config.image_size, dtype="float32", name="resize")(x)
        if chosen.channels > 1:
            x = layers.Concatenate(dtype="float32", name="channels")([x] * chosen.channels)
        network = _adapted(chosen.build(side, chosen.channels), config.sync_batch_norm)
        x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(network(x))
        x = PositionalDropout(config.dropout, HEAD_SALT, dtype="float32", name="head_dropout")(x)
        logits = layers.Dense(len(CLASSES), dtype="float32", name="logits")(x)
    return tf.keras.Model(faces, logits, name=config.name)


def _adapted(network: tf.keras.Model, sync_batch_norm: bool) -> tf.keras.Model:
    """The same network with dropout that can be resumed and, if asked for, statistics over all replicas."""
    salts = {layer.name: salt for salt, layer in enumerate(network.layers)}

    def adapt(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        settings = layer.get_config()
        if isinstance(layer, layers.Dropout):
            return PositionalDropout(layer.rate, salts[layer.name], layer.noise_shape, name=layer.name)
        if isinstance(layer, layers.BatchNormalization) and sync_batch_norm:
            settings["synchronized"] = True
        if isinstance(layer, layers.Normalization):
            settings["dtype"] = "float32"  # under mixed precision it would keep its statistics in 16 bits
        return layer.__class__.from_config(settings)

    return tf.keras.models.clone_model(network, clone_function=adapt)


@contextlib.contextmanager
def _policy(precision: str) -> Iterator[None]:
    """Keras reads the precision of layers from a global: it is put back as it was."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
