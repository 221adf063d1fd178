"""Geometric ops on a batch: each change is a matrix, and the batch is warped once.

A matrix, [B, 3, 3] float32, maps pixel centres of the output to those of the input, in pixels from the image's centre.
Change A followed by change B is therefore `A @ B`. However many changes there are, the cost is one warp, and each
image is resampled once instead of once a change.
"""

from __future__ import annotations

from fer.augment import xla_support
from fer.lazy_modules import tf

PROJECTIVE_PARAMETERS = 8  # of a transform of ImageProjectiveTransformV3


def affine(
    angle: tf.Tensor,
    scale: tf.Tensor,
    shear_x: tf.Tensor,
    shift_x: tf.Tensor,
    shift_y: tf.Tensor,
    shear_y: tf.Tensor | float = 0.0,
) -> tf.Tensor:
    """Returns matrices that rotate, scale, shear and shift, in that order.

    Args:
      angle: [B] float32, radians, counter-clockwise on the screen.
      scale: [B] float32, above 1 enlarges the content.
      shear_x: [B] float32, columns shifted for each row further from the centre.
      shift_x, shift_y: [B] float32, pixels to the right and down.
      shear_y: [B] float32, rows shifted for each column further from the centre, after `shear_x`.

    Returns:
      [B, 3, 3] float32 matrices from output to input.
    """
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    zero, one = tf.zeros_like(angle), tf.ones_like(angle)
    turn = _matrix([[cos, -sin, zero], [sin, cos, zero]])
    lean_x = _matrix([[one, -shear_x, zero], [zero, one, zero]])
    lean_y = _matrix([[one, zero, zero], [zero - shear_y, one, zero]])
    move = _matrix([[one, zero, -shift_x], [zero, one, -shift_y]])
    return turn @ lean_x @ lean_y @ move


def mirror(flipped: tf.Tensor) -> tf.Tensor:
    """Returns matrices, [B, 3, 3] float32, that swap left and right where `flipped` ([B] bool) holds."""
    sign = tf.where(flipped, -1.0, 1.0)
    zero, one = tf.zeros_like(sign), tf.ones_like(sign)
    return _matrix([[sign, zero, zero], [zero, one, zero]])


def warp(
    images: tf.Tensor,
    matrices: tf.Tensor,
    fill: float = 0.0,
    side: int | None = None,
    gathers: bool | None = None,
) -> tf.Tensor:
    """Resamples every image once, bilinearly, and rounds to whole grey levels.

    Args:
      images: [B, H, W, 1] uint8.
      matrices: [B, 3, 3] float32, affine, from output to input, about the image's centre.
      fill: grey level outside the input, an integer.
      side: of the square output in pixels, about the same centre; by default the output is as large as the input.
      gathers: True warps by gathers, False by the kernel of ImageProjectiveTransformV3, which XLA cannot compile. By
        default the faster: compiled gathers on a CPU and under XLA, the kernel on a GPU.

    Returns:
      [B, H, W, 1] uint8, or [B, side, side, 1].
    """
    height, width = images.shape[1:3]
    size = (side, side) if side else (height, width)
    to_corner = _translation((1 - size[1]) / 2, (1 - size[0]) / 2)
    about_corner = _translation((width - 1) / 2, (height - 1) / 2) @ matrices @ to_corner
    gathers = xla_support.on_cpu() or xla_support.is_under_xla() if gathers is None else gathers
    return (_warp_with_gathers if gathers else _warp_with_kernel)(images, about_corner, fill, size)


def _warp_with_kernel(images: tf.Tensor, matrices: tf.Tensor, fill: float, size: tuple[int, int]) -> tf.Tensor:
    """Resamples with TensorFlow's kernel; returns [B, *size, 1] uint8."""
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),  # on uint8 the kernel would truncate fractions instead of rounding
        transforms=tf.reshape(matrices, [-1, 9])[:, :PROJECTIVE_PARAMETERS],
        output_shape=size,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=fill,
    )
    return tf.cast(tf.round(warped), images.dtype)


def _warp_with_gathers(images: tf.Tensor, matrices: tf.Tensor, fill: float, size: tuple[int, int]) -> tf.Tensor:
    """Resamples with one gather of four neighbours packed into one integer; returns [B, *size, 1] uint8.

    A border of one pixel of the fill on each side represents everything outside. Cell indices, gather and blending are
    compiled separately: the gather is scalar code, and in one loop with it nothing would be vectorized.
    """
    # Not compiled: TensorFlow pads by copying rows, XLA by a comparison for each pixel.
    padded = tf.pad(images[..., 0], [[0, 0], [1, 1], [1, 1]], constant_values=tf.cast(fill, images.dtype))
    shape = tuple(images.shape[1:3])
    return _blend(_gather_cells(_pack_neighbours(padded), _cell_indices(matrices, shape, size)), matrices, shape, size)


@xla_support.xla_on_cpu
def _pack_neighbours(padded: tf.Tensor) -> tf.Tensor:
    """Packs each pixel and its neighbours right, below and below right into the bytes of an integer.

    Args:
      padded: [B, H + 2, W + 2] uint8.

    Returns:
      [B, H + 1, W + 1] int32.
    """
    level = tf.cast(padded, tf.int32)
    upper = tf.bitwise.bitwise_or(level[:, :-1, :-1], tf.bitwise.left_shift(level[:, :-1, 1:], 8))
    lower = tf.bitwise.bitwise_or(
        tf.bitwise.left_shift(level[:, 1:, :-1], 16), tf.bitwise.left_shift(level[:, 1:, 1:], 24)
    )
    return tf.bitwise.bitwise_or(upper, lower)


@xla_support.xla_on_cpu
def _cell_indices(matrices: tf.Tensor, shape: tuple[int, int], size: tuple[int, int]) -> tf.Tensor:
    """Returns the index, among all packed integers of the batch, for each output pixel: [B, pixels] int32."""
    (left, _), (top, _) = _neighbours(matrices, shape, size)
    width = shape[1] + 1
    return tf.range(tf.shape(matrices)[0])[:, tf.newaxis] * ((shape[0] + 1) * width) + top * width + left


@xla_support.xla_on_cpu
def _gather_cells(packed: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.reshape(packed, [-1]), cells)


@xla_support.xla_on_cpu
def _blend(found: tf.Tensor, matrices: tf.Tensor, shape: tuple[int, int], size: tuple[int, int]) -> tf.Tensor:
    """Interpolates each pixel bilinearly from its four packed neighbours; returns [B, *size, 1] uint8."""
    (_, right_share), (_, lower_share) = _neighbours(matrices, shape, size)
    one, two, three, four = (
        tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(found, bits), 255), tf.float32) for bits in (0, 8, 16, 24)
    )
    upper, lower = one + (two - one) * right_share, three + (four - three) * right_share
    return tf.reshape(tf.cast(tf.round(upper + (lower - upper) * lower_share), tf.uint8), [-1, *size, 1])


def _neighbours(
    matrices: tf.Tensor, shape: tuple[int, int], size: tuple[int, int]
) -> tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Computes the bilinear neighbours of each output pixel in the padded image, along x and along y.

    Returns:
      Two pairs (index of the neighbour before, weight of the next one) of [B, pixels], int32 and float32.
    """
    grid = tf.meshgrid(*(tf.range(length, dtype=tf.float32) for length in size), indexing="ij")
    rows, columns = (tf.reshape(place, [1, -1]) for place in grid)

    def place(entry: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
        exact = entry[:, 0, tf.newaxis] * columns + entry[:, 1, tf.newaxis] * rows + entry[:, 2, tf.newaxis] + 1
        # 0.001 pixels before the border the interpolated level rounds to that of the border.
        exact = tf.clip_by_value(exact, 0.0, length + 0.999)
        before = tf.cast(exact, tf.int32)
        return before, exact - tf.cast(before, tf.float32)

    return place(matrices[:, 0], shape[1]), place(matrices[:, 1], shape[0])


def _matrix(rows: list[list[tf.Tensor]]) -> tf.Tensor:
    """Stacks two rows of [B] tensors over (0, 0, 1) into [B, 3, 3]."""
    last = [tf.zeros_like(rows[0][0]), tf.zeros_like(rows[0][0]), tf.ones_like(rows[0][0])]
    return tf.stack([tf.stack(row, axis=-1) for row in [*rows, last]], axis=-2)


def _translation(x: float, y: float) -> tf.Tensor:
    return tf.constant([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
