"""Import of dlib's face recognition network from its file, in trainable form.

dlib distributes the network without batch normalization: after training, the statistics were folded into a scale and a
shift for each channel. Folded layers cannot be trained as before, so they are unfolded with statistics measured on
faces. The function of the network does not change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fer.errors import UserError
from fer.io import files
from fer.models import registry
from fer.models.backbones import dlib_resnet
from fer.models.normalization import NORMALIZATIONS

BATCH = 128  # faces a forward pass
MIN_DEVIATION = 1e-6  # for channels that are constant over all faces


@dataclasses.dataclass(frozen=True)
class Convolution:
    """Convolution of dlib (`con_`) with the scale and shift that follow it (`affine_`)."""

    kernel: np.ndarray  # float32 [height, width, in, out]
    bias: np.ndarray  # float32 [out]
    scale: np.ndarray  # float32 [out]
    shift: np.ndarray  # float32 [out]


def load(model: tf.keras.Model, path: str, images: np.ndarray) -> None:
    """Loads the weights of dlib_face_recognition_resnet_model_v1.dat into the backbone.

    Args:
      model: backbone of `fer.models.backbones.dlib_resnet.dlib_resnet` with three channels.
      path: of the .dat.
      images: [N, 48, 48, 1] uint8, faces on which the statistics of each convolution are measured.

    Raises:
      UserError: the file is missing, or belongs to another network.
    """
    names = dlib_resnet.CONVOLUTIONS
    shapes = [tuple(model.get_layer(f"{name}_conv").kernel.shape) for name in names]
    convolutions = read(path, shapes)
    for name, each in zip(names, convolutions):
        model.get_layer(f"{name}_conv").set_weights([each.kernel])
        norm = model.get_layer(f"{name}_bn")
        shift = each.shift + each.scale * each.bias
        norm.set_weights([each.scale, shift, np.zeros_like(shift), np.full_like(shift, 1 - norm.epsilon)])
    for name, each, (mean, variance) in zip(names, convolutions, _measure_statistics(model, names, images)):
        _unfold(model, name, each, mean, variance)


def read(path: str, shapes: Sequence[tuple[int, int, int, int]]) -> list[Convolution]:
    """Reads the convolutions from dlib's file, in its order.

    The file is a tree of layers, described by small integers, each with its parameters: a tensor, which is a version
    (2), four sizes, and float32 values (dlib/cuda/tensor_tools.h and dlib/serialize.h). The layers and so the sizes of
    their tensors are known here; other bytes are skipped, and no code of the file is executed.

    Args:
      path: of the .dat.
      shapes: [height, width, in, out] of the kernels.

    Raises:
      UserError: the file is missing, or lacks a tensor.
    """
    content = files.read_bytes(path, f"There is no weights file {path}.")
    found, position = [], 0
    for number, (height, width, channels, filters) in enumerate(shapes, start=1):
        kernel_size = height * width * channels * filters
        weights, position = _read_tensor(content, position, kernel_size + filters, path, number)
        affine, position = _read_tensor(content, position, 2 * filters, path, number)
        kernel = weights[:kernel_size].reshape(filters, channels, height, width).transpose(2, 3, 1, 0)
        found.append(Convolution(kernel, weights[kernel_size:], affine[:filters], affine[filters:]))
    return found


def _read_tensor(content: bytes, start: int, size: int, path: str, number: int) -> tuple[np.ndarray, int]:
    """Returns the next tensor of `size` values from the offset `start`, and the offset of its end."""
    head = b"".join(map(_encode_integer, (2, size, 1, 1, 1)))
    position = content.find(head, start)
    end = position + len(head) + 4 * size
    whole = 0 <= position and end <= len(content)
    values = np.frombuffer(content, "<f4", size, position + len(head)) if whole else np.empty(0)
    if not whole or not np.isfinite(values).all():
        raise UserError(
            f"{path} is not dlib's face recognition network, or is damaged: it has no {size:,} values for convolution "
            f"{number}. The file is dlib_face_recognition_resnet_model_v1.dat, unpacked."
        )
    return values, end


def _encode_integer(value: int) -> bytes:
    """Encodes a non-negative integer as dlib does: the number of bytes, then the bytes, lowest first."""
    size = max(1, -(-value.bit_length() // 8))
    return bytes([size]) + value.to_bytes(size, "little")


def _measure_statistics(
    model: tf.keras.Model, names: Sequence[str], images: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Measures mean and variance of the channels of each convolution, float64 [out], over faces and positions."""
    convolutions = tf.keras.Model(model.input, [model.get_layer(f"{name}_conv").output for name in names])
    side = model.input_shape[1]
    pixels = NORMALIZATIONS[registry.backbone_spec("dlib_resnet").pixels]

    @tf.function(autograph=False)
    def moments(faces: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        outputs = convolutions(tf.image.resize(faces, [side, side]) * pixels.scale + pixels.offset, training=False)
        return [(tf.reduce_mean(each, [0, 1, 2]), tf.reduce_mean(each**2, [0, 1, 2])) for each in outputs]

    means = [np.zeros(1)] * len(names)
    squares = [np.zeros(1)] * len(names)
    for start in range(0, len(images), BATCH):
        faces = images[start : start + BATCH]
        for place, (mean, square) in enumerate(moments(faces)):
            means[place] = means[place] + mean.numpy().astype(np.float64) * len(faces) / len(images)
            squares[place] = squares[place] + square.numpy().astype(np.float64) * len(faces) / len(images)
    return [(mean, square - mean**2) for mean, square in zip(means, squares)]


def _unfold(model: tf.keras.Model, name: str, each: Convolution, mean: np.ndarray, variance: np.ndarray) -> None:
    """Scales the convolution to outputs of variance 1, which its batch normalization compensates.

    dlib's kernels are so small that the variance of their outputs is near the epsilon of a normalization; an
    optimizer's first steps would be far too large for them.
    """
    deviation = np.sqrt(variance).clip(MIN_DEVIATION)
    convolution, norm = model.get_layer(f"{name}_conv"), model.get_layer(f"{name}_bn")
    convolution.set_weights([each.kernel / deviation])
    variance = variance / deviation**2
    gamma = each.scale * deviation * np.sqrt(variance + norm.epsilon)
    beta = each.shift + each.scale * (each.bias + mean)
    norm.set_weights([gamma, beta, mean / deviation, variance])
