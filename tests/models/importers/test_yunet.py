"""Tests of `fer.models.importers.yunet` on a shared library made of the shipped detector's weights."""

from __future__ import annotations

import numpy as np
import pytest

from fer.errors import UserError
from fer.models.importers import yunet
from fer.predict import face_detection
from tests.models.importers.detector_library import encode_library, shipped_weights

pytest.importorskip("onnx", reason="onnx is not installed: the extra export brings it")


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return shipped_weights()


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
