"""Import of dlib's face recognition network from its file, in trainable form.

dlib distributes the network without batch normalization: after training, the statistics were folded into a scale and a
shift for each channel. They are unfolded as `fer.models.importers.batch_norm_unfolding` describes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fer.errors import UserError
from fer.io import files
from fer.models import registry
from fer.models.backbones import dlib_resnet
from fer.models.importers import batch_norm_unfolding
from fer.models.importers.batch_norm_unfolding import Convolution
from fer.models.normalization import NORMALIZATIONS


def load(model: tf.keras.Model, path: str, images: np.ndarray) -> None:
    """Loads the weights of dlib_face_recognition_resnet_model_v1.dat into the backbone.

    Args:
      model: backbone of `fer.models.backbones.dlib_resnet.dlib_resnet` with three channels.
      path: of the .dat.
      images: [N, 48, 48, 1] uint8, faces on which the statistics of each convolution are measured.

    Raises:
      UserError: the file is missing, or belongs to another network.
    """
    names = [f"{name}_conv" for name in dlib_resnet.CONVOLUTIONS]
    shapes = [tuple(model.get_layer(name).kernel.shape) for name in names]
    normalization = NORMALIZATIONS[registry.backbone_spec("dlib_resnet").normalization]
    batch_norm_unfolding.load(model, dict(zip(names, read(path, shapes))), normalization, images)


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
