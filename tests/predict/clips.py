"""Small videos for tests."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

LOSSLESS = "FFV1"


def write_clip(path: pathlib.Path, frames: Sequence[np.ndarray], fps: float = 25, codec: str = LOSSLESS) -> str:
    """Writes frames uint8 [H, W, 3] RGB as a video; returns its path."""
    import cv2

    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return str(path)


def write_variable_rate(path: pathlib.Path, frames: Sequence[np.ndarray], times_ms: Sequence[int]) -> str:
    """Writes frames of JPEG at any times into a Matroska file (RFC 9559); returns its path."""
    blocks = [
        _element(0xA3, bytes([0x81]) + time.to_bytes(2, "big") + bytes([0x80]) + _jpeg(frame))
        for frame, time in zip(frames, times_ms)
    ]
    height, width = frames[0].shape[:2]
    size = _element(0xB0, width.to_bytes(2, "big")) + _element(0xBA, height.to_bytes(2, "big"))
    track = b"".join(
        _element(identifier, content)
        for identifier, content in (
            (0xD7, b"\x01"),  # number
            (0x73C5, b"\x01"),  # UID
            (0x83, b"\x01"),  # type: video
            (0x86, b"V_MJPEG"),
            (0xE0, size),
        )
    )
    info = _element(0x2AD7B1, (1_000_000).to_bytes(3, "big"))  # one millisecond
    cluster = _element(0x1F43B675, _element(0xE7, b"\x00") + b"".join(blocks))
    header = _element(0x1A45DFA3, _element(0x4282, b"matroska"))
    content = _element(0x1549A966, info) + _element(0x1654AE6B, _element(0xAE, track)) + cluster
    path.write_bytes(header + _element(0x18538067, content))
    return str(path)


def _element(identifier: int, content: bytes) -> bytes:
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (len(content) | 1 << 56).to_bytes(8, "big") + content


def _jpeg(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG")
    return file.getvalue()
