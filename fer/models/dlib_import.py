"""dlib's face recognition network, read from its own file and made trainable.

dlib ships the network without batch normalisation: the statistics were folded into a scale and a shift a channel when
its training ended. What is folded cannot be trained as before, so here it is unfolded again, with statistics that are
measured on faces; what the network computes stays the same.
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

BATCH = 128  # faces at once
SMALLEST_DEVIATION = 1e-6  # of a channel that is the same in all faces


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One of dlib's convolutions (`con_`) and the scale and shift that follow it (`affine_`)."""

    kernel: np.ndarray  # float32 [height, width, in, out]
    bias: np.ndarray  # float32 [out]
    scale: np.ndarray  # float32 [out]
    shift: np.ndarray  # float32 [out]


def load(model: tf.keras.Model, path: str, images: np.ndarray) -> None:
    """Puts the weights of dlib_face_recognition_resnet_model_v1.dat into the backbone.

    Args:
      model: what `fer.models.backbones.dlib_resnet.dlib_resnet` made, of three channels.
      path: of the .dat.
      images: [N, 48, 48, 1] uint8, faces on which the statistics of each convolution are measured.

    Raises:
      UserError: the file is missing, or is not this network's.
    """
    names = dlib_resnet.CONVOLUTIONS
    shapes = [tuple(model.get_layer(f"{name}_conv").kernel.shape) for name in names]
    convolutions = read(path, shapes)
    for name, each in zip(names, convolutions):
        model.get_layer(f"{name}_conv").set_weights([each.kernel])
        norm = model.get_layer(f"{name}_bn")
        shift = each.shift + each.scale * each.bias
        norm.set_weights([each.scale, shift, np.zeros_like(shift), np.full_like(shift, 1 - norm.epsilon)])
    for name, each, (mean, variance) in zip(names, convolutions, _statistics(model, names, images)):
        _unfold(model, name, each, mean, variance)


def read(path: str, shapes: Sequence[tuple[int, int, int, int]]) -> list[Convolution]:
    """The convolutions in dlib's file, in its order.

    A file of dlib's is a tree of layers, described in small integers, each with its parameters: a tensor, which is a
    version (2), four sizes, and float32 values (dlib/cuda/tensor_tools.h and dlib/serialize.h). Here the layers are
    known, and so the sizes of their tensors; what stands between is passed over, and nothing of the file is run.

    Args:
      path: of the .dat.
      shapes: [height, width, in, out] of the kernels.

    Raises:
      UserError: the file is missing, or a tensor is not in it.
    """
    content = files.read_bytes(path, f"There is no weights file {path}.")
    found, position = [], 0
    for number, (height, width, channels, filters) in enumerate(shapes, start=1):
        kernel_size = height * width * channels * filters
        weights, position = _tensor(content, position, kernel_size + filters, path, number)
        affine, position = _tensor(content, position, 2 * filters, path, number)
        kernel = weights[:kernel_size].reshape(filters, channels, height, width).transpose(2, 3, 1, 0)
        found.append(Convolution(kernel, weights[kernel_size:], affine[:filters], affine[filters:]))
    return found


def _tensor(content: bytes, start: int, size: int, path: str, number: int) -> tuple[np.ndarray, int]:
    """The next tensor of `size` values, and where it ends."""
    head = b"".join(map(_integer, (2, size, 1, 1, 1)))
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


def _integer(value: int) -> bytes:
    """As dlib writes one that is not negative: how many bytes it takes, and those, the lowest first."""
    size = max(1, -(-value.bit_length() // 8))
    return bytes([size]) + value.to_bytes(size, "little")


def _statistics(model: tf.keras.Model, names: Sequence[str], images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each convolution the mean and the variance of its channels, float64 [out], over faces and places."""
    seen = tf.keras.Model(model.input, [model.get_layer(f"{name}_conv").output for name in names])
    side = model.input_shape[1]
    pixels = NORMALIZATIONS[registry.backbone_spec("dlib_resnet").pixels]

    @tf.function(autograph=False)
    def moments(faces: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        outputs = seen(tf.image.resize(faces, [side, side]) * pixels.scale + pixels.offset, training=False)
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
    """Makes the convolution's outputs have variance 1, and the batch normalisation undo it.

    dlib's kernels have become so small in training that their outputs' variance is near the epsilon of a
    normalisation, and an optimizer's first steps would be far too long for them.
    """
    deviation = np.sqrt(variance).clip(SMALLEST_DEVIATION)
    convolution, norm = model.get_layer(f"{name}_conv"), model.get_layer(f"{name}_bn")
    convolution.set_weights([each.kernel / deviation])
    variance = variance / deviation**2
    gamma = each.scale * deviation * np.sqrt(variance + norm.epsilon)
    beta = each.shift + each.scale * (each.bias + mean)
    norm.set_weights([gamma, beta, mean / deviation, variance])
