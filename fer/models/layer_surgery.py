"""Adaptation of published networks to the trainer: resumable dropout, no input normalization of their own."""

from __future__ import annotations

import tensorflow as tf

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
