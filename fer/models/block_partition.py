"""Division of a backbone's layers into blocks, from input to output."""

from __future__ import annotations

import dataclasses
import re

import tensorflow as tf

from fer.errors import UserError, suggest


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
