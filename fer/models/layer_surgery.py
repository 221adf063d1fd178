"""Changes to published networks: resumable dropout, no input normalization, division into blocks, truncation."""

from __future__ import annotations

import dataclasses
import re

import tensorflow as tf

from fer.errors import UserError, suggest
from fer.models.dropout import PositionalDropout

layers = tf.keras.layers


def adapt_backbone(network: tf.keras.Model, sync_batch_norm: bool) -> tf.keras.Model:
    """Rebuilds a network with new random weights.

    Dropout becomes `PositionalDropout`, also in composite layers such as KerasCV's blocks. The network's own input
    normalization is removed, because `fer.models.normalization` replaces it.

    Args:
      network: a functional model.
      sync_batch_norm: whether BatchNormalization computes statistics over all replicas.
    """
    salts = {layer.name: salt for salt, layer in enumerate(network.layers)}

    def adapt(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        settings = layer.get_config()
        if isinstance(layer, layers.Dropout):
            return PositionalDropout(layer.rate, salts[layer.name], layer.noise_shape, name=layer.name)
        if isinstance(layer, (layers.Rescaling, layers.Normalization)):
            return layers.Activation("linear", name=layer.name)
        if isinstance(layer, layers.BatchNormalization) and sync_batch_norm:
            settings["synchronized"] = True
        if isinstance(layer, layers.Conv2D) and 1 < layer.groups == layer.filters:
            return _to_depthwise(layer)
        copy = layer.__class__.from_config(settings)
        _adapt_inside(copy, salts[layer.name], sync_batch_norm)
        return copy

    return tf.keras.models.clone_model(network, clone_function=adapt)


def _to_depthwise(layer: tf.keras.layers.Conv2D) -> tf.keras.layers.DepthwiseConv2D:
    """Returns the equivalent of a convolution with one group a channel (ConvNeXt); CPUs lack grouped kernels."""
    initializer = layer.kernel_initializer
    return layers.DepthwiseConv2D(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        use_bias=layer.use_bias,
        depthwise_initializer=initializer.from_config(
            initializer.get_config()
        ),  # a used initializer repeats its values
        name=layer.name,
    )


def _adapt_inside(layer: tf.keras.layers.Layer, salt: int, sync_batch_norm: bool) -> None:
    """Adapts the parts of a composite layer in place, as attributes, before they are built."""
    for name, part in list(vars(layer).items()):
        if isinstance(part, layers.Dropout):
            setattr(layer, name, PositionalDropout(part.rate, salt, part.noise_shape, name=part.name))
        elif isinstance(part, layers.BatchNormalization) and sync_batch_norm:
            # Not replaced, because a layer's weights are in the order in which its parts were set.
            part.synchronized, part.fused = True, False


@dataclasses.dataclass
class Block:
    """Layers between two consecutive points that every path through the network passes."""

    name: str
    layers: list[tf.keras.layers.Layer]
    end: tf.keras.layers.Layer  # its output is the block's


def split_into_blocks(network: tf.keras.Model, ends: str) -> list[Block]:
    """Divides a network into blocks.

    Args:
      network: a functional model; Keras lists its layers by their distance from the output.
      ends: as in `fer.models.registry.Backbone`.

    Returns:
      The blocks; each layer is in exactly one. Layers after the last end belong to the last block.
    """
    found: list[Block] = []
    waiting, unnamed = [], 0
    for layer in network.layers:
        waiting.append(layer)
        match = re.fullmatch(ends, layer.name)
        if not match:
            continue
        if not match.lastindex:
            unnamed += 1
        name = match[match.lastindex] if match.lastindex else f"block{unnamed}"
        if found and found[-1].name == name:
            found[-1].layers += waiting
            found[-1].end = layer
        else:
            found.append(Block(name, waiting, layer))
        waiting = []
    found[-1].layers += waiting
    return found


def truncate(network: tf.keras.Model, ends: str, last: str) -> tf.keras.Model:
    """Returns the network up to the end of the block `last`.

    Raises:
      UserError: the network has no such block.
    """
    known = {block.name: block for block in split_into_blocks(network, ends)}
    if last not in known:
        raise UserError(
            f"config.model.truncate_at names no block of {network.name}: {last!r}{suggest(last, list(known))}."
        )
    # The last output: a Sequential, such as ConvNeXt's stem, has another one for its own input.
    return tf.keras.Model(network.input, known[last].end.get_output_at(-1), name=network.name)
