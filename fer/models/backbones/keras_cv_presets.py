"""Backbones of KerasCV by preset. No other module of `fer.models` imports KerasCV.

KerasCV downloads even the description of an architecture from Kaggle. Here the architectures are arguments of its
classes, so that only pretrained weights need a download.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from fer.errors import UserError
from fer.io.files import error_message

if TYPE_CHECKING:
    import tensorflow as tf

PREFIX = "keras_cv/"


@dataclasses.dataclass(frozen=True)
class Preset:
    """Architecture of KerasCV."""

    kind: str  # name of the class in keras_cv.models
    arguments: dict[str, Any]
    size: int  # side in pixels in the publication's training
    block_end_pattern: str  # see fer.models.registry.Backbone
    pretrained: bool = False  # whether Kaggle has ImageNet weights as <name>_imagenet


def _resnet(version: str, block_type: str, blocks: tuple[int, ...], pretrained: bool = False) -> Preset:
    arguments: dict[str, Any] = {"stackwise_filters": [64, 128, 256, 512], "stackwise_strides": [1, 2, 2, 2]}
    arguments |= {"stackwise_blocks": list(blocks), "block_type": block_type}
    ends = r"(conv1)_(?:conv|bn|relu)|v2_(stack_\d_block\d+)_out"
    return Preset(f"ResNet{version}Backbone", arguments, 224, ends, pretrained)


def _densenet(*repeats: int) -> Preset:
    arguments = {"stackwise_num_repeats": list(repeats)}
    return Preset("DenseNetBackbone", arguments, 224, r"(conv1)_relu|(conv\d_block_\d+)_concat", pretrained=True)


def _efficientnet(
    stages: list[tuple], size: int, width: float = 1.0, depth: float = 1.0, pretrained: bool = False
) -> Preset:
    """Returns a preset; each stage is (repeats, kernel, stride, expansion, channels in, channels out, fused)."""
    repeats, kernels, strides, expansions, ins, outs, fused = (list(column) for column in zip(*stages))
    arguments = {
        "stackwise_kernel_sizes": kernels,
        "stackwise_num_repeats": repeats,
        "stackwise_input_filters": ins,
        "stackwise_output_filters": outs,
        "stackwise_expansion_ratios": expansions,
        "stackwise_squeeze_and_excite_ratios": [0.0 if one else 0.25 for one in fused],
        "stackwise_strides": strides,
        "stackwise_conv_types": ["fused" if one else "unfused" for one in fused],
        "width_coefficient": width,
        "depth_coefficient": depth,
    }
    ends = r"(stem|top)_activation|(block\d+[a-z])_"
    return Preset("EfficientNetV2Backbone", arguments, size, ends, pretrained)


# Tan and Le 2021, arXiv:2104.00298, table 4, and the authors' code for the others.
V2_B = [
    (1, 3, 1, 1, 32, 16, True),
    (2, 3, 2, 4, 16, 32, True),
    (2, 3, 2, 4, 32, 48, True),
    (3, 3, 2, 4, 48, 96, False),
    (5, 3, 1, 6, 96, 112, False),
    (8, 3, 2, 6, 112, 192, False),
]
V2_S = [
    (2, 3, 1, 1, 24, 24, True),
    (4, 3, 2, 4, 24, 48, True),
    (4, 3, 2, 4, 48, 64, True),
    (6, 3, 2, 4, 64, 128, False),
    (9, 3, 1, 6, 128, 160, False),
    (15, 3, 2, 6, 160, 256, False),
]
V2_M = [
    (3, 3, 1, 1, 24, 24, True),
    (5, 3, 2, 4, 24, 48, True),
    (5, 3, 2, 4, 48, 80, True),
    (7, 3, 2, 4, 80, 160, False),
    (14, 3, 1, 6, 160, 176, False),
    (18, 3, 2, 6, 176, 304, False),
    (5, 3, 1, 6, 304, 512, False),
]
V2_L = [
    (4, 3, 1, 1, 32, 32, True),
    (7, 3, 2, 4, 32, 64, True),
    (7, 3, 2, 4, 64, 96, True),
    (10, 3, 2, 4, 96, 192, False),
    (19, 3, 1, 6, 192, 224, False),
    (25, 3, 2, 6, 224, 384, False),
    (7, 3, 1, 6, 384, 640, False),
]

PRESETS = {
    "efficientnetv2_b0": _efficientnet(V2_B, 224, pretrained=True),
    "efficientnetv2_b1": _efficientnet(V2_B, 240, 1.0, 1.1, pretrained=True),
    "efficientnetv2_b2": _efficientnet(V2_B, 260, 1.1, 1.2, pretrained=True),
    "efficientnetv2_b3": _efficientnet(V2_B, 300, 1.2, 1.4),
    "efficientnetv2_s": _efficientnet(V2_S, 384, pretrained=True),
    "efficientnetv2_m": _efficientnet(V2_M, 480),
    "efficientnetv2_l": _efficientnet(V2_L, 480),
    "resnet18": _resnet("", "basic_block", (2, 2, 2, 2)),
    "resnet34": _resnet("", "basic_block", (3, 4, 6, 3)),
    "resnet50": _resnet("", "block", (3, 4, 6, 3), pretrained=True),
    "resnet101": _resnet("", "block", (3, 4, 23, 3)),
    "resnet152": _resnet("", "block", (3, 8, 36, 3)),
    "resnet18_v2": _resnet("V2", "basic_block", (2, 2, 2, 2)),
    "resnet34_v2": _resnet("V2", "basic_block", (3, 4, 6, 3)),
    "resnet50_v2": _resnet("V2", "block", (3, 4, 6, 3), pretrained=True),
    "resnet101_v2": _resnet("V2", "block", (3, 4, 23, 3)),
    "resnet152_v2": _resnet("V2", "block", (3, 8, 36, 3)),
    "densenet121": _densenet(6, 12, 24, 16),
    "densenet169": _densenet(6, 12, 32, 32),
    "densenet201": _densenet(6, 12, 48, 32),
}


def names() -> list[str]:
    """Returns the names of all presets in the registry."""
    return [PREFIX + name for name in PRESETS]


def build(name: str, side: int, channels: int) -> tf.keras.Model:
    """Builds the network of a preset with random weights, without its own input normalization.

    Args:
      name: a key of PRESETS.
      side: pixels of the square input.
      channels: of the input.
    """
    import keras_cv  # imported here: it takes seconds

    preset = PRESETS[name]
    kind = getattr(keras_cv.models, preset.kind)
    return kind(include_rescaling=False, input_shape=(side, side, channels), **preset.arguments)


def pretrained(name: str, side: int) -> tf.keras.Model:
    """Builds the network of a preset with ImageNet weights from Kaggle or its cache.

    Args:
      name: a key of PRESETS with pretrained weights.
      side: pixels of the square input.

    Raises:
      UserError: Kaggle cannot be reached; the message names the file to download and the flag that takes it.
    """
    import keras_cv

    kind = getattr(keras_cv.models, PRESETS[name].kind)
    handle = kind.presets[f"{name}_imagenet"]["kaggle_handle"].removeprefix("kaggle://")
    try:
        return kind.from_preset(f"{name}_imagenet", include_rescaling=False, input_shape=(side, side, 3))
    except Exception as error:  # kagglehub and requests raise many kinds
        raise UserError(
            f"The weights of {PREFIX}{name} cannot be fetched ({error_message(error)}): on a machine that "
            f"reaches https://www.kaggle.com/models/{handle} take its model.weights.h5 from there, and name it here "
            "with config.model.weights=PATH/model.weights.h5."
        ) from error
