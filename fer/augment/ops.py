"""The operations of a policy that change images one by one: each draws numbers, and says what they mean.

An operation does not touch pixels. It returns a `Change`, and however many of them follow each other, `apply` makes
of them one warp, one smoothing and one table an image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from fer.augment import geometric, photometric, randaugment, sharpness
from fer.augment import xla as device
from fer.augment.draws import Draws


class Change(NamedTuple):
    """What becomes of each image of a batch; None where nothing does."""

    matrices: tf.Tensor | None = None  # [B, 3, 3] float32, see `geometry`
    side: int | None = None  # of the images from here on, in pixels
    sharpness: tf.Tensor | None = None  # [B] float32, see `sharpness.adjust`
    tables: Callable[[tf.Tensor, tf.Tensor, bool], tf.Tensor] | None = (
        None  # (tables, histograms, xla) -> tables: `tone`
    )
    sees: tf.Tensor | bool = False  # whether `tables` goes by the histogram, of all images or of some ([B] bool)


PASSES = ("matrices", "sharpness", "tables")  # geometry, sharpness, tone


def apply(images: tf.Tensor, changes: Sequence[Change], xla: bool = False) -> tf.Tensor:
    """Changes images in the order of `changes`, in as few passes as it allows; within one change it is `PASSES`.

    Args:
      images: [B, H, W, 1] uint8.
      changes: what becomes of them.
      xla: see `device`.

    Returns:
      [B, H, W, 1] uint8, smaller where there was a crop.
    """
    together: list[Change] = []
    reached = 0
    for change in changes:
        passes = [place for place, name in enumerate(PASSES) if getattr(change, name) is not None] or [reached]
        if passes[0] < reached:
            images, together = _apply_together(images, together, xla), []
        together.append(change)
        reached = passes[-1]
    return _apply_together(images, together, xla)


def _apply_together(images: tf.Tensor, changes: Sequence[Change], xla: bool) -> tf.Tensor:
    """One pass of each kind, in the order of `PASSES`; but one for each sharpness: two of them are no third."""
    matrices = [change.matrices for change in changes if change.matrices is not None]
    factors = [change.sharpness for change in changes if change.sharpness is not None]
    tables = [change.tables for change in changes if change.tables is not None]
    if matrices:
        side = next((change.side for change in reversed(changes) if change.side), None)
        images = geometric.warp(images, _product(matrices), side=side, gathers=xla or None)
    for factor in factors:
        images = sharpness.adjust(images, factor, xla)
    if tables:
        counts, drawn = _histograms(images, changes, xla), photometric.identity(tf.shape(images)[0])
        for change in tables:
            drawn = change(drawn, counts, xla)
        images = photometric.apply(images, drawn)
    return images


def _histograms(images: tf.Tensor, changes: Sequence[Change], xla: bool) -> tf.Tensor:
    """[B, 256] float32: the histograms of those images that some change goes by, zeros for the others."""
    if any(change.sees is True for change in changes):
        return photometric.histogram(images)
    none = tf.zeros([tf.shape(images)[0], photometric.LEVELS])
    some = [change.sees for change in changes if change.sees is not False]
    return (
        device.only(functools.reduce(tf.logical_or, some), none, photometric.histogram, images, xla=xla)
        if some
        else none
    )


def flip(draws: Draws, side: int, p: float = 0.5) -> Change:
    """Mirrors left and right with probability `p`. Faces have no other flip."""
    return Change(matrices=geometric.mirror(draws.uniform(1)[:, 0] < p))


def affine(
    draws: Draws, side: int, rotate: float = 0.0, scale: float = 0.0, shift: float = 0.0, shear: float = 0.0
) -> Change:
    """Turns, zooms, leans and moves, each by its own amount, uniform in plus or minus the strength.

    Args:
      draws: see `Draws`.
      side: of the image, in pixels.
      rotate: degrees.
      scale: of the size: 0.1 draws from 0.9 to 1.1 times.
      shift: of the side: 0.08 moves up to 3.84 of 48 pixels, right or left and up or down.
      shear: columns moved for each row further from the centre.
    """
    angle, zoom, lean, right, down = tf.unstack(2 * draws.uniform(5) - 1, axis=-1)
    return Change(
        matrices=geometric.affine(
            angle=angle * (rotate * math.pi / 180),
            scale=1 + zoom * scale,
            shear_x=lean * shear,
            shift_x=right * (shift * side),
            shift_y=down * (shift * side),
        )
    )


def crop(draws: Draws, side: int, to: float = 40) -> Change:
    """Cuts a square of `to` pixels a side out at random.

    A network that is convolutions up to its pooling takes it as it is: it trains in (to / side) squared of the time,
    and sees whole faces at inference. Others see it resized to their own size.
    """
    spare = side - int(to)
    left, top = tf.unstack(tf.floor(draws.uniform(2) * (spare + 1)), axis=-1)  # whole pixels: nothing is blurred
    zero = tf.zeros_like(left)
    moved = geometric.affine(zero, zero + 1, zero, spare / 2 - left, spare / 2 - top)
    return Change(matrices=moved, side=int(to))


def brightness(draws: Draws, side: int, strength: float = 0.3) -> Change:
    """Multiplies by a factor, uniform in 1 plus or minus `strength`."""
    factor = _around_one(draws, strength)
    return _curve(lambda curve, _: photometric.brightness(curve, factor))


def contrast(draws: Draws, side: int, strength: float = 0.3) -> Change:
    """Moves levels away from the mean by a factor, uniform in 1 plus or minus `strength`."""
    factor = _around_one(draws, strength)
    return _curve(lambda curve, seen: photometric.contrast(curve, factor, seen), sees=True)


def gamma(draws: Draws, side: int, strength: float = 0.3) -> Change:
    """Raises levels to an exponent, uniform in its logarithm: strength 0.3 draws from 1 / 1.3 to 1.3."""
    exponent = tf.exp((2 * draws.uniform(1)[:, 0] - 1) * math.log1p(strength))
    return Change(tables=lambda tables, *_: photometric.gamma(tables, exponent))


def solarize(draws: Draws, side: int, threshold: float = 128.0, p: float = 0.5) -> Change:
    """Inverts the levels from `threshold` on, with probability `p`."""
    level = tf.where(_chosen(draws, p), threshold, photometric.LEVELS)
    return _curve(lambda curve, _: photometric.solarize(curve, level))


def posterize(draws: Draws, side: int, bits: float = 4.0, p: float = 0.5) -> Change:
    """Keeps the upper `bits` of each level, with probability `p`."""
    kept = tf.where(_chosen(draws, p), float(round(bits)), 8.0)
    return _curve(lambda curve, _: photometric.posterize(curve, kept))


def invert(draws: Draws, side: int, p: float = 0.5) -> Change:
    """Black for white, with probability `p`."""
    chosen = _chosen(draws, p)
    return _curve(lambda curve, _: photometric.where(chosen, photometric.invert(curve), curve))


def autocontrast(draws: Draws, side: int, p: float = 0.5) -> Change:
    """Stretches the levels to the whole range, with probability `p`."""
    chosen = _chosen(draws, p)
    return _curve(
        lambda curve, seen: photometric.where(chosen, photometric.autocontrast(curve, seen), curve), sees=chosen
    )


def equalize(draws: Draws, side: int, p: float = 0.5) -> Change:
    """Makes the levels occur about equally often, with probability `p`."""
    chosen = _chosen(draws, p)

    def tables(before: tf.Tensor, counts: tf.Tensor, xla: bool) -> tf.Tensor:
        return device.only(chosen, before, photometric.equalize, before, counts, xla=xla)

    return Change(tables=tables, sees=chosen)


def sharpen(draws: Draws, side: int, strength: float = 0.5) -> Change:
    """Sharpens or blurs by a factor, uniform in 1 plus or minus `strength`."""
    return Change(sharpness=_around_one(draws, strength))


def blur(draws: Draws, side: int, p: float = 0.5) -> Change:
    """Smooths with the 3x3 kernel of `sharpness`, with probability `p`."""
    return Change(sharpness=tf.where(_chosen(draws, p), 0.0, 1.0))


def randomly(draws: Draws, side: int, layers: float = 2, magnitude: float = 9.0, preset: str = "paper") -> Change:
    """RandAugment: see `randaugment`.

    Args:
      draws: see `Draws`.
      side: of the image, in pixels.
      layers: operations an image, one after the other.
      magnitude: 0 to 10.
      preset: a key of `randaugment.SETS`.
    """
    reach = randaugment.SETS[preset]
    drawn = [randaugment.draw(draws.salted(layer), reach, magnitude) for layer in range(int(layers))]
    return chained(drawn, reach, side)._replace(
        sharpness=math.prod(randaugment.sharpness(each, reach) for each in drawn)
    )


def chained(layers: Sequence[randaugment.Layer], reach: randaugment.Reach, side: int) -> Change:
    """Layers of RandAugment one after the other, as one change of places and of tone."""

    def tables(before: tf.Tensor, counts: tf.Tensor, xla: bool) -> tf.Tensor:
        for layer in layers:
            before = randaugment.tables(layer, reach, before, counts, xla)
        return before

    return Change(
        matrices=_product([randaugment.matrices(layer, reach, side) for layer in layers]),
        tables=tables,
        sees=functools.reduce(tf.logical_or, [randaugment.sees(layer) for layer in layers]),
    )


def _product(matrices: Sequence[tf.Tensor]) -> tf.Tensor:
    product = matrices[0]
    for matrix in matrices[1:]:
        product = product @ matrix
    return product


def _around_one(draws: Draws, strength: float) -> tf.Tensor:
    return 1 + (2 * draws.uniform(1)[:, 0] - 1) * strength


def _chosen(draws: Draws, p: float) -> tf.Tensor:
    return draws.uniform(1)[:, 0] < p


def _curve(
    change: Callable[[photometric.Curve, photometric.Facts], photometric.Curve], sees: tf.Tensor | bool = False
) -> Change:
    """A change of tone that is one curve; `sees` as in `Change`."""

    def tables(before: tf.Tensor, counts: tf.Tensor, _: bool) -> tf.Tensor:
        curve = change(photometric.unchanged(tf.shape(before)[0]), photometric.facts(before, counts))
        return photometric.follow(before, curve)

    return Change(tables=tables, sees=sees)
