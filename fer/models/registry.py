"""The backbones by name: how each is built and what it expects to see."""

from __future__ import annotations

import dataclasses
from typing import Callable

import tensorflow as tf

from fer.config import nearest
from fer.errors import UserError
from fer.models.compact import compact


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network without its head."""

    build: Callable[[int | None, int], tf.keras.Model]  # (side, channels) -> [B, side, side, channels] to [B, h, w, C]
    channels: int  # 1 takes grey as it is, 3 sees it three times
    scale: float  # the network sees pixels * scale + offset, pixels in [0, 255]
    offset: float
    smallest: int  # side in pixels
    any_size: bool = False  # built with side None, it takes images of any size from 24 pixels on


def _keras(application: Callable[..., tf.keras.Model]) -> Callable[[int, int], tf.keras.Model]:
    """A network of tf.keras.applications, its weights drawn anew."""
    return lambda side, channels: application(include_top=False, weights=None, input_shape=(side, side, channels))


BACKBONES = {
    # FER-2013's training pixels have mean 129.5 and standard deviation 65.0.
    "compact": Backbone(compact, channels=1, scale=1 / 65, offset=-129.5 / 65, smallest=24, any_size=True),
    # EfficientNet rescales inside: it takes [0, 255].
    "efficientnet_b0": Backbone(
        _keras(tf.keras.applications.EfficientNetB0), channels=3, scale=1.0, offset=0.0, smallest=32
    ),
    "inception_v3": Backbone(
        _keras(tf.keras.applications.InceptionV3), channels=3, scale=1 / 127.5, offset=-1.0, smallest=75
    ),
}


def backbone(name: str) -> Backbone:
    """The backbone called `name`.

    Raises:
      UserError: there is none; the message names the nearest.
    """
    if name not in BACKBONES:
        raise UserError(f"There is no model {name!r}{nearest(name, list(BACKBONES))}.")
    return BACKBONES[name]
