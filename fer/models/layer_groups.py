"""Groups of a classifier's layers for fine-tuning, and freezing of groups.

order = groups(model, config)                       # from input to output; the last is the head
rate = base * decay ** group.depth                  # layer-wise decay; the head has depth 0
set_trainable(model, config, "head", False)         # the head only
set_trainable(model, config, order[-1 - k].name, ...)  # the head and the last k blocks
set_trainable(model, config, order[0].name, ...)    # everything
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from fer import tf_workarounds
from fer.config import Model
from fer.errors import UserError, suggest
from fer.models import layer_surgery, registry
from fer.models.classifier import get_backbone

HEAD = "head"


@dataclasses.dataclass(frozen=True)
class Group:
    """Layers that are frozen together and share one learning rate."""

    name: str  # of a block of the backbone, or "head"
    layers: list[tf.keras.layers.Layer]
    depth: int  # 0 for the head, and one more for each group towards the input

    @property
    def variables(self) -> list[tf.Variable]:
        """All weights of the group, trainable or not."""
        return [weight for layer in self.layers for weight in layer.weights]


def groups(model: tf.keras.Model, config: Model) -> list[Group]:
    """Returns the groups of a classifier from input to output; each weight is in exactly one.

    Args:
      model: classifier of `fer.models.classifier.build`.
      config: its configuration.
    """
    network = get_backbone(model)
    parts = [
        (block.name, block.layers)
        for block in layer_surgery.split_into_blocks(network, registry.backbone_spec(config.name).block_end_pattern)
    ]
    parts.append((HEAD, [layer for layer in model.layers if layer is not network]))
    return [Group(name, layers, len(parts) - 1 - place) for place, (name, layers) in enumerate(parts)]


def set_trainable(model: tf.keras.Model, config: Model, from_group: str, batch_norm: bool) -> None:
    """Makes a group and all later ones trainable, and freezes the earlier ones.

    A frozen BatchNormalization uses its moving statistics, in training too, and does not update them. Functions that
    were traced with the earlier `model.trainable_variables`, and objects built from them, must be rebuilt.

    Args:
      model: classifier of `fer.models.classifier.build`.
      config: its configuration.
      from_group: name of the first trainable group.
      batch_norm: whether BatchNormalization is trainable in these groups; it is always frozen in the others.

    Raises:
      UserError: the group is unknown; the message suggests the nearest.
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
                    part.trainable = False
                    tf_workarounds.unfuse_frozen_batch_norm(part)
