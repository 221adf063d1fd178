"""RandAugment for 8-bit grey faces, on whole batches (Cubuk et al. 2020, arXiv:1909.13719).

Each image has ops of its own, drawn uniformly, at one magnitude from 0 to 10. The ops of a batch are parameters before
they are changes: geometric ops become entries of one matrix, tone ops parameters of one curve a layer, sharpness a
factor. So a batch with thirteen kinds of ops is one computation, without branches and without a map over images.

Differences from the paper:
- Color is omitted: it would not change a grey image, like Identity.
- The order is geometric, sharpness, tone, whatever the order drawn: changes of grey levels and of positions commute,
  apart from interpolation and the fill.
- Posterize and Solarize become stronger with the magnitude. In the authors' code a higher magnitude keeps more bits and
  inverts fewer levels, against the text's "maximum strength"; other implementations correct this too.
- Two layers that both draw Sharpness multiply their factors.

The preset `faces` is weaker: a face that is upside down, inverted or shifted by half its width has no recognizable
expression. It has no Invert, Solarize or Posterize, a third to a half of the paper's geometric amounts, and two thirds
of its factors of brightness, contrast and sharpness.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

from fer.augment import geometric, photometric, xla_support
from fer.lazy_modules import tf
from fer.rng import BatchRng

MAX_MAGNITUDE = 10


class AugmentSpace(NamedTuple):
    """Set of ops, and the amount of each at magnitude 10."""

    operations: tuple[str, ...]
    rotate: float  # degrees
    shear: float  # columns for each row
    translate: float  # fraction of the side
    enhance: float  # brightness, contrast and sharpness change by factors of 1 - enhance to 1 + enhance
    bits: Callable[[tf.Tensor], tf.Tensor]  # magnitude / 10 -> bits that posterize keeps, float32


OPERATIONS = (
    "identity", "autocontrast", "equalize", "rotate", "solarize", "posterize", "contrast", "brightness", "sharpness",
    "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip
PAPER = AugmentSpace(
    operations=OPERATIONS,
    rotate=30.0,
    shear=0.3,
    translate=0.45,  # 150 of AutoAugment's 331 pixels (Cubuk et al. 2019, arXiv:1805.09501, table 6)
    enhance=0.9,
    bits=lambda strength: 8 - tf.round(4 * strength),
)
FACES = PAPER._replace(
    operations=tuple(name for name in OPERATIONS if name not in ("solarize", "posterize")),
    rotate=15.0,
    shear=0.15,
    translate=0.15,
    enhance=0.6,
)
PRESETS = {"paper": PAPER, "faces": FACES}
HISTOGRAM_OPS = ("contrast", "autocontrast", "equalize")  # they depend on the image


class Layer(NamedTuple):
    """One op for each image of a batch."""

    drawn: dict[str, tf.Tensor]  # op -> [B] bool: the images that drew it
    strength: tf.Tensor  # [B] float32: magnitude / 10 with a random sign


def draw_layer(rng: BatchRng, space: AugmentSpace, magnitude: float) -> Layer:
    """Draws an op for each image uniformly, and its direction."""
    chance, direction = tf.unstack(rng.uniform(2), axis=-1)
    index = tf.floor(chance * len(space.operations))
    strength = tf.where(direction < 0.5, -1.0, 1.0) * (magnitude / MAX_MAGNITUDE)
    return Layer({name: tf.equal(index, float(number)) for number, name in enumerate(space.operations)}, strength)


def matrices(layer: Layer, space: AugmentSpace, side: int) -> geometric.Matrices:
    """Returns the geometric change; the identity for images that drew an op of another kind."""

    def amount(name: str, most: float) -> tf.Tensor:
        return tf.where(layer.drawn[name], layer.strength * most, 0.0)

    # An image drew at most one of these ops: the product of their matrices is the sum of their changes.
    angle = amount("rotate", space.rotate * math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    return geometric.Matrices(
        xx=cos,
        xy=-sin - amount("shear_x", space.shear),
        x=-amount("translate_x", space.translate * side),
        yx=sin - amount("shear_y", space.shear),
        yy=cos,
        y=-amount("translate_y", space.translate * side),
    )


def sharpness(layer: Layer, space: AugmentSpace) -> tf.Tensor:
    """Returns the factor of sharpness, [B] float32; 1 for images that drew another op."""
    return tf.where(layer.drawn["sharpness"], 1 + layer.strength * space.enhance, 1.0)


def needs_histogram(layer: Layer) -> tf.Tensor:
    """Returns which images need their histogram for the change of tone, [B] bool."""
    return functools.reduce(tf.logical_or, [layer.drawn[name] for name in HISTOGRAM_OPS if name in layer.drawn])


def tables(layer: Layer, space: AugmentSpace, before: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Applies the layer's change of tone to tables.

    Args:
      layer: the op of each image.
      space: the ops and their amounts.
      before: [B, 256] float32 tables.
      counts: [B, 256] float32 histograms of the images to which the tables will be applied; those for which
        `needs_histogram` is false may be anything.

    Returns:
      [B, 256] float32 tables.
    """
    curve = photometric.identity_curve(tf.shape(before)[0])
    stats = photometric.image_stats(before, counts)
    factor, absolute = 1 + layer.strength * space.enhance, tf.abs(layer.strength)
    changes = {
        "brightness": photometric.brightness(curve, factor),
        "contrast": photometric.contrast(curve, factor, stats),
        "autocontrast": photometric.autocontrast(curve, stats),
        "solarize": photometric.solarize(curve, tf.round(photometric.LEVELS * (1 - absolute))),
        "posterize": photometric.posterize(curve, space.bits(absolute)),
    }
    for name, change in changes.items():
        if name in layer.drawn:
            curve = photometric.where(layer.drawn[name], change, curve)
    toned = photometric.apply_curve(before, curve)
    return xla_support.apply_where(layer.drawn["equalize"], toned, photometric.equalize, before, counts)
