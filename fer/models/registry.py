"""Registry of the backbones: how each is built, and its input size and normalization."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fer.errors import UserError, suggest
from fer.models.backbones import googlenet, keras_cv_presets
from fer.models.backbones.compact import compact, tiny
from fer.models.backbones.dlib_resnet import dlib_resnet
from fer.models.backbones.efficientnet_lite import efficientnet_lite
from fer.models.backbones.mini_xception import mini_xception
from fer.models.backbones.mobilefacenet import mobilefacenet
from fer.models.backbones.resnet import resnet


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Specification of a network without its head."""

    build: Callable[..., tf.keras.Model]  # (side, channels) -> [B, side, side, channels] to [B, h, w, C]
    size: int  # default side in pixels: that of the publication's training
    min_size: int  # smallest side in pixels
    normalization: str  # a key of fer.models.normalization.NORMALIZATIONS
    # Pattern of the names of layers at the ends of blocks, which every path passes. A group of the pattern names the
    # block (if several layers give one name, the last ends it); without a group, blocks are block1, block2, ...
    block_end_pattern: str
    imagenet: Callable[[int], tf.keras.Model] | None = None  # (side) -> network with ImageNet weights, if published
    channels: int = 3  # input channels; 1: grey
    any_size: bool = False  # built with side None, it takes images of any size of at least 24 pixels
    class_maps: bool = False  # the head is a convolution to a map of each class and pooling; else pooling, then dense
    auxiliary: tuple[str, ...] = ()  # layers with auxiliary heads, if enabled


def _keras_application(
    name: str, size: int, min_size: int, normalization: str, block_end_pattern: str, **arguments: Any
) -> Backbone:
    """Returns the specification of a network of tf.keras.applications.

    `arguments` disable the network's own input normalization where Keras allows it.
    """
    application = getattr(tf.keras.applications, name)

    def build(weights: str | None, side: int, channels: int) -> tf.keras.Model:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # model.stem_channels=sum uses two channels
            return application(include_top=False, weights=weights, input_shape=(side, side, channels), **arguments)

    imagenet = functools.partial(build, "imagenet", channels=3)
    return Backbone(functools.partial(build, None), size, min_size, normalization, block_end_pattern, imagenet)


def _efficientnet(version: str, size: int) -> Backbone:
    return _keras_application(f"EfficientNet{version}", size, 32, "torch", EFFICIENTNET)


def _efficientnet_v2(version: str, size: int, normalization: str) -> Backbone:
    return _keras_application(
        f"EfficientNetV2{version}", size, 32, normalization, EFFICIENTNET, include_preprocessing=False
    )


def _convnext(version: str) -> Backbone:
    ends = r"convnext_\w+_(stem)|tf\.__operators__\.add(?:_\d+)?"
    return _keras_application(f"ConvNeXt{version}", 224, 32, "torch", ends, include_preprocessing=False)


def _mobilenet_v3(version: str) -> Backbone:
    ends = r"(Conv)/BatchNorm|(expanded_conv(?:_\d+)?)/(?:Add|project/BatchNorm)"
    return _keras_application(f"MobileNetV3{version}", 224, 32, "tf", ends, include_preprocessing=False)


def _compact(width: int, name: str) -> Backbone:
    return _small(functools.partial(compact, width=width, name=name))


def _small(build: Callable[[int | None, int], tf.keras.Model]) -> Backbone:
    return Backbone(build, 48, 24, "grey", r"(\w+)(?<!_1)_relu", channels=1, any_size=True)


def _googlenet(normalize: bool, name: str) -> Backbone:
    build = functools.partial(googlenet.googlenet, normalize=normalize, name=name)
    return Backbone(build, 224, 32, "torch", r"(stem|inception\w+)_out", auxiliary=googlenet.AUXILIARY)


def _resnet(blocks: tuple[int, ...], name: str) -> Backbone:
    return Backbone(functools.partial(resnet, blocks=blocks, name=name), 224, 32, "torch", RESNET)


def _lite(width: float, depth: float, size: int, name: str) -> Backbone:
    build = functools.partial(efficientnet_lite, width=width, depth=depth, name=name)
    return Backbone(build, size, 32, "lite", r"(stem)_relu|(head_relu)|(block\d+)_(?:add|project_bn)")


EFFICIENTNET = r"(stem|top)_activation|(block\d+[a-z])_(?:add|project_bn|project_activation)"
RESNET = r"(conv1)_(?:conv|bn|relu)|(conv\d_block\d+)_out"
INCEPTION_RESNET = (
    r"(mixed_\d[ab])|(block\d+_\d+)_ac|(conv_7b)_ac"  # block8_10, whose end has no name, is part of conv_7b
)
MOBILEFACENET = r"(conv1|conv7)_prelu|(conv2|global|block\d+)_(?:add|project_bn)|(embedding)_bn"
MOBILENET_V2 = r"(Conv1)_relu|(expanded_conv|block_\d+)_(?:add|project_BN)|(out)_relu"
XCEPTION = r"block1_conv2_act|add(?:_\d+)?|block14_sepconv2_act"

BACKBONES = {
    "tiny": _small(tiny),
    "compact_s": _compact(16, "compact_s"),
    "compact": _compact(32, "compact"),
    "compact_l": _compact(48, "compact_l"),
    "mini_xception": Backbone(mini_xception, 64, 32, "tf", r"(stem\d|module\d+)_out", channels=1, class_maps=True),
    "googlenet": _googlenet(True, "googlenet"),
    "googlenet_lrn": _googlenet(False, "googlenet_lrn"),
    "inception_v3": _keras_application("InceptionV3", 299, 75, "tf", r"(mixed\d+)"),
    "inception_resnet_v2": _keras_application("InceptionResNetV2", 299, 75, "tf", INCEPTION_RESNET),
    "xception": _keras_application("Xception", 299, 71, "tf", XCEPTION),
    "resnet18": _resnet((2, 2, 2, 2), "resnet18"),
    "resnet34": _resnet((3, 4, 6, 3), "resnet34"),
    "dlib_resnet": Backbone(dlib_resnet, 150, 103, "dlib", RESNET),
    "mobilefacenet": Backbone(mobilefacenet, 112, 32, "arcface", MOBILEFACENET),
    "resnet50": _keras_application("ResNet50", 224, 32, "caffe", RESNET),
    "resnet101": _keras_application("ResNet101", 224, 32, "caffe", RESNET),
    "resnet152": _keras_application("ResNet152", 224, 32, "caffe", RESNET),
    "resnet50_v2": _keras_application("ResNet50V2", 224, 32, "tf", RESNET),
    "resnet101_v2": _keras_application("ResNet101V2", 224, 32, "tf", RESNET),
    "resnet152_v2": _keras_application("ResNet152V2", 224, 32, "tf", RESNET),
    "vgg16": _keras_application("VGG16", 224, 32, "caffe", r"(block\d)_pool"),
    "vgg19": _keras_application("VGG19", 224, 32, "caffe", r"(block\d)_pool"),
    "mobilenet": _keras_application("MobileNet", 224, 32, "tf", r"(conv1|conv_pw_\d+)_relu"),
    "mobilenet_v2": _keras_application("MobileNetV2", 224, 32, "tf", MOBILENET_V2),
    "mobilenet_v3_small": _mobilenet_v3("Small"),
    "mobilenet_v3_large": _mobilenet_v3("Large"),
    "efficientnet_lite0": _lite(1.0, 1.0, 224, "efficientnet_lite0"),
    "efficientnet_lite1": _lite(1.0, 1.1, 240, "efficientnet_lite1"),
    "efficientnet_lite2": _lite(1.1, 1.2, 260, "efficientnet_lite2"),
    "efficientnet_b0": _efficientnet("B0", 224),
    "efficientnet_b1": _efficientnet("B1", 240),
    "efficientnet_b2": _efficientnet("B2", 260),
    "efficientnet_b3": _efficientnet("B3", 300),
    "efficientnet_b4": _efficientnet("B4", 380),
    "efficientnet_b5": _efficientnet("B5", 456),
    "efficientnet_b6": _efficientnet("B6", 528),
    "efficientnet_b7": _efficientnet("B7", 600),
    "efficientnet_v2_b0": _efficientnet_v2("B0", 224, "torch"),
    "efficientnet_v2_b1": _efficientnet_v2("B1", 240, "torch"),
    "efficientnet_v2_b2": _efficientnet_v2("B2", 260, "torch"),
    "efficientnet_v2_b3": _efficientnet_v2("B3", 300, "torch"),
    "efficientnet_v2_s": _efficientnet_v2("S", 384, "v2"),
    "efficientnet_v2_m": _efficientnet_v2("M", 480, "v2"),
    "efficientnet_v2_l": _efficientnet_v2("L", 480, "v2"),
    "convnext_tiny": _convnext("Tiny"),
    "convnext_small": _convnext("Small"),
    "convnext_base": _convnext("Base"),
    "convnext_large": _convnext("Large"),
}


def backbone_spec(name: str) -> Backbone:
    """Returns the backbone `name`: a key of BACKBONES, or keras_cv/PRESET.

    Raises:
      UserError: the name is unknown; the message suggests the nearest.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    presets = keras_cv_presets.names()
    if name not in presets:
        raise UserError(f"There is no model {name!r}{suggest(name, [*BACKBONES, *presets])}.")
    short = name.removeprefix(keras_cv_presets.PREFIX)
    preset = keras_cv_presets.PRESETS[short]
    return Backbone(
        functools.partial(keras_cv_presets.build, short),
        preset.size,
        32,
        "unit",
        preset.block_end_pattern,
        functools.partial(keras_cv_presets.pretrained, short) if preset.pretrained else None,
    )
