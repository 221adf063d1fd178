"""What fine-tuning needs to know of a classifier: its layers in groups, and what is frozen.

order = groups(model, config)                       # from input to output; the last is the head
rate = base * decay ** group.depth                  # layer-wise decay: the head has depth 0
set_trainable(model, config, "head", False)         # the head only
set_trainable(model, config, order[-1 - k].name, ...)  # the head and the last k blocks
set_trainable(model, config, order[0].name, ...)    # everything
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from fer.config import Model, suggest
from fer.errors import UserError
from fer.models import backbone_blocks, registry
from fer.models.classifier import backbone_of

HEAD = "head"


@dataclasses.dataclass(frozen=True)
class Group:
    """Layers that are frozen together and share a learning rate."""

    name: str  # of a block of the backbone, or "head"
    layers: list[tf.keras.layers.Layer]
    depth: int  # 0 for the head, and one more for each group towards the input

    @property
    def variables(self) -> list[tf.Variable]:
        """All weights of the group, whether they are trained or not."""
        return [weight for layer in self.layers for weight in layer.weights]


def groups(model: tf.keras.Model, config: Model) -> list[Group]:
    """The groups of a classifier from input to output; they hold every weight once.

    Args:
      model: what `fer.models.classifier.build` made of `config`.
      config: which network.
    """
    network = backbone_of(model)
    parts = [
        (block.name, block.layers)
        for block in backbone_blocks.split_into_blocks(network, registry.backbone_spec(config.name).block_end_pattern)
    ]
    parts.append((HEAD, [layer for layer in model.layers if layer is not network]))
    return [Group(name, layers, len(parts) - 1 - place) for place, (name, layers) in enumerate(parts)]


def set_trainable(model: tf.keras.Model, config: Model, from_group: str, batch_norm: bool) -> None:
    """Freezes what lies before a group and trains it and what follows.

    A frozen BatchNormalization normalises with its moving statistics, in training too, and leaves them as they are.
    What was traced or built from `model.trainable_variables` before must be made anew.

    Args:
      model: what `fer.models.classifier.build` made of `config`.
      config: which network.
      from_group: the name of the first group that is trained.
      batch_norm: whether BatchNormalization is trained in these groups; frozen ones stay frozen.

    Raises:
      UserError: there is no such group; the message names the nearest.
    """
    order = groups(model, config)
    names = [group.name for group in order]
    if from_group not in names:
        raise UserError(f"{config.name} has no group of layers {from_group!r}{suggest(from_group, names)}.")
    first = names.index(from_group)
    for place, group in enumerate(order):
        for layer in group.layers:
            layer.trainable = place >= first
            parts = (layer, *layer.submodules) if place >= first and not batch_norm else ()
            for part in parts:
                if isinstance(part, tf.keras.layers.BatchNormalization):
                    _freeze_statistics(part)


def _freeze_statistics(layer: tf.keras.layers.BatchNormalization) -> None:
    layer.trainable = False
    if tf.config.list_logical_devices("GPU"):
        # There, the gradient of the fused operation with moving statistics is refused where a run is to be the same
        # each time (`train.deterministic`); the plain operations compute the same.
        layer.fused = False
