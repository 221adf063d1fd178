"""A shared library for tests, made of the shipped face detector's weights."""

from __future__ import annotations

import struct

import numpy as np

from fer.predict import face_detection


def shipped_weights() -> dict[str, np.ndarray]:
    """Returns the weights of the shipped detector as libfacedetection.so stores them."""
    import onnx

    stored = {}
    for constant in onnx.load(str(face_detection.MODEL)).graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if constant.name == "backbone__model0_pw_weight":
            stored[constant.name] = np.pad(values.transpose(0, 2, 3, 1).reshape(16, 27), [(0, 0), (0, 5)])
        elif constant.name.endswith("_dw_weight"):
            stored[constant.name] = values.reshape(-1, 9).T
        elif constant.name.endswith(("_weight", "_bias")):
            stored[constant.name] = values
    return stored


def encode_library(weights: dict[str, np.ndarray]) -> bytes:
    """Encodes arrays as the data symbols of a shared library (ELF, 64 bits) that is loaded at the address 4096."""
    data, names, symbols = b"", b"\0", bytes(24)
    for name, values in weights.items():
        content = np.ascontiguousarray(values, "<f4").tobytes()
        symbols += struct.pack("<IBBHQQ", len(names), 1 << 4 | 1, 0, 1, 4096 + 64 + len(data), len(content))
        data, names = data + content, names + name.encode() + b"\0"
    starts = np.cumsum([64, len(data), len(names), len(symbols)]).tolist()
    sections = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 1, 0, 4096 + starts[0], starts[0], len(data), 0, 0, 0, 0),
        (0, 3, 0, 0, starts[1], len(names), 0, 0, 0, 0),
        (0, 11, 0, 0, starts[2], len(symbols), 2, 0, 0, 24),
    ]
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, starts[3], 0, 64, 0, 0, 64, 4, 2)
    return header + data + names + symbols + b"".join(struct.pack("<IIQQQQIIQQ", *each) for each in sections)
