"""Classifier with any backbone: uint8 faces in, float32 logits out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from fer.config import Model
from fer.errors import UserError
from fer.labels import CLASSES, SIDE
from fer.models import heads, layer_surgery, registry
from fer.models.normalization import NORMALIZATIONS, Normalization
from fer.models.registry import Backbone

layers = tf.keras.layers


def build(config: Model, precision: str, seed: int | None = 0, classes: int = len(CLASSES)) -> tf.keras.Model:
    """Builds a classifier with random weights; `fer.models.pretrained` loads others.

    Args:
      config: network and input size. The architecture does not depend on `config.weights`.
      precision: of the backbone: float32, mixed_bfloat16 or mixed_float16.
      seed: of the initial weights; sets the global random states of Python, NumPy and Keras. None draws them from
        Keras' state, for weights that are replaced.
      classes: number of classes; by default that of FER-2013.

    Returns:
      A model from uint8 [B, 48, 48, 1] to logits float32 [B, classes], in label order. With auxiliary heads, a call
      with `training=True` returns a list of logits: see `fer.models.heads.losses`.

    Raises:
      UserError: the backbone or block is unknown, or the backbone does not support an option or the image size.
    """
    chosen = registry.backbone_spec(config.name)
    size = _input_size(config, chosen)
    if seed is not None:
        tf.keras.utils.set_random_seed(seed)  # only the initial weights use Keras' global random state
    with _precision_policy(precision):
        # Faces are 48x48. The op crop makes them smaller; a network without fixed input size takes them unresized.
        faces = tf.keras.Input([None, None, 1], dtype="uint8", name="faces")
        side = None if chosen.any_size and size == SIDE else size
        x = layers.Resizing(side, side, dtype="float32", name="resize")(faces) if side else faces
        x = _normalize(x, config, chosen)
        network = build_backbone(config, chosen, side, x.shape[-1])
        if config.pooling == "gem":
            _check_positive(config, network)
        features, *tapped = tf.nest.flatten(network(x))
        logits = heads.classification_head(features, config.pooling, config.dropout, chosen.class_maps, classes)
        name = config.name.replace("/", "_")
        if not tapped:
            return tf.keras.Model(faces, logits, name=name)
        auxiliaries = [heads.auxiliary_head(tap, number, classes) for number, tap in enumerate(tapped, start=1)]
        return heads.AuxiliaryClassifier(faces, [logits, *auxiliaries], name=name)


def get_backbone(model: tf.keras.Model) -> tf.keras.Model:
    """Returns the backbone of a classifier."""
    return next(layer for layer in model.layers if isinstance(layer, tf.keras.Model))


def build_backbone(config: Model, chosen: Backbone, side: int | None, channels: int) -> tf.keras.Model:
    """Builds the backbone for the classifier: truncated, adapted, with outputs for auxiliary heads."""
    network = chosen.build(side, channels)
    if config.truncate_at:
        network = layer_surgery.truncate(network, chosen.block_end_pattern, config.truncate_at)
    network = layer_surgery.adapt_backbone(network, config.sync_batch_norm)
    if not config.aux_logits:
        return network
    taps = [network.get_layer(name).output for name in chosen.auxiliary]
    return tf.keras.Model(network.input, [network.output, *taps], name=network.name)


def channel_mixing(config: Model) -> np.ndarray | None:
    """Returns how the three channels of the published network follow from ours; None if the channels are the same.

    Returns:
      [3, channels]; see `fer.models.normalization.Normalization.mixing`.
    """
    chosen = registry.backbone_spec(config.name)
    return None if chosen.channels == 1 or config.stem_channels == "repeat" else _normalization(config, chosen).mixing()


def _normalization(config: Model, chosen: Backbone) -> Normalization:
    return NORMALIZATIONS[config.normalization or chosen.normalization]


def _normalize(x: tf.Tensor, config: Model, chosen: Backbone) -> tf.Tensor:
    """Normalizes grey pixels [B, h, w, 1] to the backbone's input, float32, with one to three channels."""
    normalization = _normalization(config, chosen)
    if chosen.channels > 1 and config.stem_channels == "repeat":
        x = layers.Concatenate(dtype="float32", name="channels")([x] * 3)
        return layers.Rescaling(normalization.scale, normalization.offset, dtype="float32", name="pixels")(x)
    x = layers.Rescaling(np.mean(normalization.scale), np.mean(normalization.offset), dtype="float32", name="pixels")(x)
    if chosen.channels == 1 or normalization.alike:
        return x
    return layers.Concatenate(dtype="float32", name="channels")([x, tf.ones_like(x)])


def _input_size(config: Model, chosen: Backbone) -> int:
    """Returns the side of the backbone's input, in pixels, and checks options that depend on the backbone."""
    size = config.image_size or chosen.size
    if size < chosen.min_size:
        raise UserError(f"config.model.image_size is {size}; {config.name} needs {chosen.min_size} or more.")
    if config.aux_logits and (not chosen.auxiliary or config.truncate_at):
        raise UserError(
            f"config.model.aux_logits is on; {config.name}{' with a cut' if config.truncate_at else ''} has none: they "
            "belong to googlenet."
        )
    if chosen.class_maps and config.pooling == "gem":
        raise UserError(
            f"config.model.pooling is gem, which needs positive features, and {config.name} pools logits, which may be "
            "negative: choose avg, max or avgmax."
        )
    return size


def _check_positive(config: Model, network: tf.keras.Model) -> None:
    """Raises a UserError if half the features may be far below zero, which gem pooling clips."""
    features = tf.nest.flatten(network.output)[0]
    if not _is_positive(features):
        last = features.node.layer
        where = f"{config.name} cut after {config.truncate_at}" if config.truncate_at else config.name
        raise UserError(
            f"config.model.pooling is gem, which needs positive features, and {where} ends with {last.name}, which may "
            "be negative: choose avg, max or avgmax."
        )


def _is_positive(features: Any) -> bool:
    """Returns whether a Keras tensor has no values far below zero: it, or all its parts, come from an activation.

    Swish has a minimum of -0.28. MobileNet v3 writes its activation, x * relu6(x + 3) / 6, as a product.
    """
    node = features.node
    if isinstance(node.layer, (layers.Concatenate, layers.MaxPooling2D, layers.AveragePooling2D)):
        return all(map(_is_positive, node.keras_inputs))
    activated = getattr(node.layer, "activation", None) not in (
        None,
        tf.keras.activations.linear,
    )  # as VGG's layers have
    return activated or isinstance(node.layer, (layers.ReLU, layers.Multiply))


@contextlib.contextmanager
def _precision_policy(precision: str) -> Iterator[None]:
    """Sets Keras' global precision policy within the context and restores it afterwards."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
