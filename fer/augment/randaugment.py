"""RandAugment for 8-bit grey faces, on whole batches (Cubuk et al. 2020, arXiv:1909.13719).

Each image has its own operations, drawn uniformly, at one magnitude from 0 to 10. They are numbers before they are
changes: the geometric ones become entries of one matrix, the tone ones numbers of one curve a layer, sharpness a
factor. So a batch with thirteen kinds of operations is computed at once, with no branch and no map over its images.

Where it differs from the paper, and why:
- Color is left out: a grey face has none. It would be a second Identity.
- Geometry comes first, then sharpness, then tone, whatever the order drawn: changes of grey levels and of places
  commute, apart from interpolation and the fill.
- Posterize and Solarize grow stronger with the magnitude. In the authors' code a higher magnitude keeps more bits and
  inverts fewer levels, against the text's "maximum strength"; others have mended it so too.
- Two layers that both draw Sharpness multiply their factors.

`faces` is a gentler set: a face upside down, inverted or moved by half its width is no longer a face with an
expression. No Invert, Solarize or Posterize, geometry at a third to a half of the paper's reach, and factors of
brightness, contrast and sharpness at two thirds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from fer.augment import geometric, photometric, xla_support
from fer.rng import BatchRng

MAX_MAGNITUDE = 10.0


class AugmentSpace(NamedTuple):
    """A set of operations, and how far each goes at magnitude 10."""

    operations: tuple[str, ...]
    rotate: float  # degrees
    shear: float  # columns a row
    translate: float  # of the side
    enhance: float  # factors of brightness, contrast and sharpness lie in 1 - this to 1 + this
    bits: Callable[[tf.Tensor], tf.Tensor]  # magnitude over 10 -> those that posterize keeps of a level, float32


PAPER = AugmentSpace(
    operations=(
        "identity",
        "autocontrast",
        "equalize",
        "rotate",
        "solarize",
        "posterize",
        "contrast",
        "brightness",
        "sharpness",
        "shear_x",
        "shear_y",
        "translate_x",
        "translate_y",
    ),
    rotate=30.0,
    shear=0.3,
    translate=0.45,  # 150 of AutoAugment's 331 pixels (Cubuk et al. 2019, arXiv:1805.09501, table 6)
    enhance=0.9,
    bits=lambda strength: 8 - tf.round(4 * strength),
)
FACES = PAPER._replace(
    operations=tuple(name for name in PAPER.operations if name not in ("solarize", "posterize")),
    rotate=15.0,
    shear=0.15,
    translate=0.15,
    enhance=0.6,
)
SETS = {"paper": PAPER, "faces": FACES}
HISTOGRAM_OPS = ("contrast", "autocontrast", "equalize")  # these go by what the image looks like


class Layer(NamedTuple):
    """What one layer does to each image."""

    name: dict[str, tf.Tensor]  # operation -> [B] bool: the images that drew it
    strength: tf.Tensor  # [B] float32: the magnitude over 10, its sign drawn


def draw(rng: BatchRng, reach: AugmentSpace, magnitude: float) -> Layer:
    """Which operation each image gets, uniformly, and in which direction."""
    chance, direction = tf.unstack(rng.uniform(2), axis=-1)
    index = tf.floor(chance * len(reach.operations))
    strength = tf.where(direction < 0.5, -1.0, 1.0) * (magnitude / MAX_MAGNITUDE)
    return Layer({name: tf.equal(index, float(number)) for number, name in enumerate(reach.operations)}, strength)


def matrices(layer: Layer, reach: AugmentSpace, side: int) -> tf.Tensor:
    """The layer's change of place, [B, 3, 3] float32, the identity for images that drew another operation."""

    def amount(name: str, most: float) -> tf.Tensor:
        return tf.where(layer.name[name], layer.strength * most, 0.0)

    return geometric.affine(
        angle=amount("rotate", reach.rotate * math.pi / 180),
        scale=tf.ones_like(layer.strength),
        shear_x=amount("shear_x", reach.shear),
        shift_x=amount("translate_x", reach.translate * side),
        shift_y=amount("translate_y", reach.translate * side),
        shear_y=amount("shear_y", reach.shear),
    )


def sharpness(layer: Layer, reach: AugmentSpace) -> tf.Tensor:
    """The layer's factor of sharpness, [B] float32, 1 for images that drew another operation."""
    return tf.where(layer.name["sharpness"], 1 + layer.strength * reach.enhance, 1.0)


def needs_histogram(layer: Layer) -> tf.Tensor:
    """[B] bool: the images whose change of tone depends on their histograms."""
    return functools.reduce(tf.logical_or, [layer.name[name] for name in HISTOGRAM_OPS if name in layer.name])


def tables(layer: Layer, reach: AugmentSpace, before: tf.Tensor, counts: tf.Tensor, xla: bool = False) -> tf.Tensor:
    """The tables after the layer's change of tone.

    Args:
      layer, reach: what was drawn.
      before: [B, 256] float32 tables.
      counts: [B, 256] float32 histograms of the images that the tables will be applied to, where they are needed: see
        `needs_histogram`.
      xla: see `device`.
    """
    curve = photometric.identity_curve(tf.shape(before)[0])
    seen = photometric.image_stats(before, counts)
    factor, strong = 1 + layer.strength * reach.enhance, tf.abs(layer.strength)
    changes = {
        "brightness": photometric.brightness(curve, factor),
        "contrast": photometric.contrast(curve, factor, seen),
        "autocontrast": photometric.autocontrast(curve, seen),
        "solarize": photometric.solarize(curve, tf.round(photometric.LEVELS * (1 - strong))),
        "posterize": photometric.posterize(curve, reach.bits(strong)),
    }
    for name, change in changes.items():
        if name in layer.name:
            curve = photometric.where(layer.name[name], change, curve)
    followed = photometric.apply_curve(before, curve)
    return xla_support.apply_where(layer.name["equalize"], followed, photometric.equalize, before, counts, xla=xla)
