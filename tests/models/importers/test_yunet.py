"""Tests of `fer.models.importers.yunet` on a shared library made of the shipped detector's weights."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from fer.errors import UserError
from fer.models.importers import yunet
from fer.predict import face_detection

onnx = pytest.importorskip("onnx", reason="onnx is not installed: the extra export brings it")


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    """Returns the weights of the shipped detector as libfacedetection.so stores them."""
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


def test_convert_reproduces_the_shipped_detector_byte_by_byte(weights, tmp_path):
    (tmp_path / "libfacedetection.so").write_bytes(encode_library(weights))
    yunet.convert(str(tmp_path / "libfacedetection.so"), str(tmp_path / "yunet.onnx"))
    assert (tmp_path / "yunet.onnx").read_bytes() == face_detection.MODEL.read_bytes()


@pytest.mark.parametrize("fault", ["missing", "short", "nan"])
def test_convert_error_names_the_weight(weights, tmp_path, fault):
    name = "neck__lateral_convs__1_dw_bias"
    changed = dict(weights)
    changed[name] = {"missing": np.empty(0), "short": weights[name][:-1], "nan": weights[name] * np.nan}[fault]
    (tmp_path / "a.so").write_bytes(encode_library(changed))
    with pytest.raises(UserError, match=rf"a\.so is not libfacedetection\.so .*{name} has no .* values"):
        yunet.convert(str(tmp_path / "a.so"), str(tmp_path / "yunet.onnx"))
    assert not (tmp_path / "yunet.onnx").exists()


@pytest.mark.parametrize("kept", [1000, 100_000])
def test_read_rejects_truncated_library(weights, tmp_path, kept):
    (tmp_path / "a.so").write_bytes(encode_library(weights)[:kept])
    with pytest.raises(UserError, match=r"a\.so is damaged: its symbols cannot be read"):
        yunet.read(str(tmp_path / "a.so"))


def test_read_rejects_other_files(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\3\4")
    with pytest.raises(UserError, match=r"a\.zip is no shared library of 64-bit Linux"):
        yunet.read(str(tmp_path / "a.zip"))
