"""Geometric ops on a batch: each change is a matrix, and the batch is warped once.

A matrix maps pixel centres of the output to those of the input, in pixels from the image's centre. Change A followed by
change B is therefore `A @ B`. However many changes there are, the cost is one warp, and each image is resampled once
instead of once a change.
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

from fer.augment import xla_support
from fer.lazy_modules import tf


class Matrices(NamedTuple):
    """Affine matrices of a batch, each ((xx, xy, x), (yx, yy, y), (0, 0, 1)); every entry is [B] float32.

    Entries instead of [B, 3, 3] tensors: products of such small matrices are slower as `tf.matmul` than entry by entry,
    and their rounding depends on the machine, on a GPU down to TF32.
    """

    xx: tf.Tensor
    xy: tf.Tensor
    x: tf.Tensor
    yx: tf.Tensor
    yy: tf.Tensor
    y: tf.Tensor

    def __matmul__(self, other: Matrices) -> Matrices:
        """Returns the matrix products. Compiled code: TensorFlow's graph optimizer would reorder the sums."""

        def row(first: tf.Tensor, second: tf.Tensor, shift: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            rounded = xla_support.rounded
            return (
                rounded(first * other.xx) + rounded(second * other.yx),
                rounded(first * other.xy) + rounded(second * other.yy),
                rounded(first * other.x) + rounded(second * other.y) + shift,
            )

        return Matrices(*row(self.xx, self.xy, self.x), *row(self.yx, self.yy, self.y))


def affine(
    angle: tf.Tensor,
    scale: tf.Tensor,
    shear_x: tf.Tensor,
    shift_x: tf.Tensor,
    shift_y: tf.Tensor,
    shear_y: tf.Tensor | None = None,
) -> Matrices:
    """Returns matrices that rotate, scale, shear and shift, in that order.

    Args:
      angle: [B] float32, radians, counter-clockwise on the screen.
      scale: [B] float32, above 1 enlarges the content.
      shear_x: [B] float32, columns shifted for each row further from the centre.
      shift_x, shift_y: [B] float32, pixels to the right and down.
      shear_y: [B] float32, rows shifted for each column further from the centre, after `shear_x`.

    Returns:
      The matrices from output to input.
    """
    # The cosine and sine of TensorFlow; XLA's have other roundings.
    shear_y = tf.zeros_like(angle) if shear_y is None else shear_y
    return _affine(tf.cos(angle) / scale, tf.sin(angle) / scale, shear_x, shear_y, shift_x, shift_y)


@xla_support.xla_compiled
def _affine(
    cos: tf.Tensor, sin: tf.Tensor, shear_x: tf.Tensor, shear_y: tf.Tensor, shift_x: tf.Tensor, shift_y: tf.Tensor
) -> Matrices:
    zero, one = tf.zeros_like(cos), tf.ones_like(cos)
    turn = Matrices(cos, -sin, zero, sin, cos, zero)
    lean_x = Matrices(one, -shear_x, zero, zero, one, zero)
    lean_y = Matrices(one, zero, zero, -shear_y, one, zero)
    move = Matrices(one, zero, -shift_x, zero, one, -shift_y)
    return turn @ lean_x @ lean_y @ move


def mirror(flipped: tf.Tensor) -> Matrices:
    """Returns matrices that swap left and right where `flipped` ([B] bool) holds."""
    sign = tf.where(flipped, -1.0, 1.0)
    zero, one = tf.zeros_like(sign), tf.ones_like(sign)
    return Matrices(sign, zero, zero, zero, one, zero)


@xla_support.xla_compiled
def product(*factors: Matrices) -> Matrices:
    """Returns the product of matrices: their changes in this order."""
    return functools.reduce(operator.matmul, factors)


def warp(images: tf.Tensor, *matrices: Matrices, fill: float = 0.0, side: int | None = None) -> tf.Tensor:
    """Resamples every image once, bilinearly, and rounds to whole grey levels.

    A border of the fill represents everything outside. The column right of an image is the border left of its next row,
    and the row below it the border above the next image. Each pixel and its neighbours right, below and below right are
    packed into one integer, so that one gather finds the four levels to interpolate.

    Args:
      images: [B, H, W, 1] uint8.
      matrices: the changes in the order in which they apply, about the image's centre.
      fill: grey level outside the input, an integer.
      side: of the square output in pixels, about the same centre; by default the output is as large as the input.

    Returns:
      [B, H, W, 1] uint8, or [B, side, side, 1].
    """
    height, width = images.shape[1:3]
    size = (side, side) if side else (height, width)
    rows = tf.reshape(images, [-1, height, width])
    # Not compiled on a CPU: TensorFlow pads by copying rows, XLA by a comparison for each pixel.
    padded = tf.pad(rows, [[1, 0], [0, 1], [0, 1]], constant_values=tf.cast(fill, images.dtype))
    return _resample(_pack_neighbours(padded), matrices, (height, width), size)


@xla_support.xla_compiled
def _pack_neighbours(padded: tf.Tensor) -> tf.Tensor:
    """Packs each level of the batch and its neighbours right, below and below right into the bytes of an integer.

    Args:
      padded: [B + 1, H + 1, W + 1] uint8: an image of the fill, and the images with a border right and below.

    Returns:
      [B * (H + 1) * (W + 1)] int32; the first integer of an image is that of its border above left.
    """
    levels, (height, width) = tf.cast(tf.reshape(padded, [-1]), tf.int32), padded.shape[1:]
    count, first = tf.size(padded) - height * width, height * width - width - 1

    def neighbours(offset: int, byte: int) -> tf.Tensor:
        return tf.bitwise.left_shift(levels[first + offset : first + offset + count], 8 * byte)

    upper = tf.bitwise.bitwise_or(neighbours(0, 0), neighbours(1, 1))
    return tf.bitwise.bitwise_or(upper, tf.bitwise.bitwise_or(neighbours(width, 2), neighbours(width + 1, 3)))


@xla_support.xla_compiled
def _resample(
    packed: tf.Tensor, matrices: tuple[Matrices, ...], shape: tuple[int, int], size: tuple[int, int]
) -> tf.Tensor:
    """Interpolates each pixel bilinearly from four packed neighbours; returns [B, *size, 1] uint8."""
    matrix = _about_corner(functools.reduce(operator.matmul, matrices), shape, size)
    left, right_share = _neighbours(matrix.xx, matrix.xy, matrix.x, shape[1], size)
    top, lower_share = _neighbours(matrix.yx, matrix.yy, matrix.y, shape[0], size)
    cells = xla_support.to_int32(top * (shape[1] + 1) + left)
    images = tf.range(tf.shape(matrix.x)[0])[:, tf.newaxis] * ((shape[0] + 1) * (shape[1] + 1))
    found = tf.gather(packed, images + cells)
    one, two, three, four = (
        tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(found, bits), 255), tf.float32) for bits in (0, 8, 16, 24)
    )
    upper, lower = one + (two - one) * right_share, three + (four - three) * right_share
    return tf.reshape(xla_support.to_uint8(upper + (lower - upper) * lower_share), [-1, *size, 1])


def _neighbours(
    by_column: tf.Tensor, by_row: tf.Tensor, start: tf.Tensor, length: int, size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the neighbours of each output pixel along one axis of the padded image, which is `length` + 2 long.

    Returns:
      The index of the neighbour before, a whole number, and the weight of the next one: [B, pixels] float32.
    """
    grid = tf.meshgrid(*(tf.range(each, dtype=tf.float32) for each in size), indexing="ij")
    rows, columns = (tf.reshape(place, [1, -1]) for place in grid)
    exact = by_column[:, tf.newaxis] * columns + by_row[:, tf.newaxis] * rows + start[:, tf.newaxis] + 1
    # 0.001 pixels before the border the interpolated level rounds to that of the border.
    exact = tf.clip_by_value(exact, 0.0, length + 0.999)
    before = tf.floor(exact)
    return before, exact - before


def _about_corner(matrices: Matrices, shape: tuple[int, int], size: tuple[int, int]) -> Matrices:
    """Returns the matrices in pixels from the corners of an input of `shape` and an output of `size`."""
    right, down = (1 - size[1]) / 2, (1 - size[0]) / 2

    def start(by_column: tf.Tensor, by_row: tf.Tensor, shift: tf.Tensor, length: int) -> tf.Tensor:
        return xla_support.rounded(by_column * right) + xla_support.rounded(by_row * down) + (shift + (length - 1) / 2)

    return matrices._replace(
        x=start(matrices.xx, matrices.xy, matrices.x, shape[1]), y=start(matrices.yx, matrices.yy, matrices.y, shape[0])
    )
