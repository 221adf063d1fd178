"""Detects, follows and classifies the faces of a video: frames -> faces with track numbers and probabilities.

Frames are read one after another, and at most two batches of them are held, so the memory does not depend on the length
of the video. The faces of several frames are classified in one batch while the next frames are read. A frame each
second is searched as a picture, the frames in between only near the faces of the frame before.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fer import log_suppression
from fer.errors import UserError, install_command
from fer.predict import tracking
from fer.predict.face_detection import Box, FaceCrops, detect_near
from fer.predict.video_request import CAMERA
from fer.storage import is_remote

BATCH = 32  # faces classified together
SEARCH_INTERVAL_S = 1.0  # between frames that are searched as pictures; a new face is found after at most this time
MAX_FRAMES = 64  # held until their faces are classified
MAX_BYTES = 64 << 20  # of these frames; a frame may be larger
MAX_GAP_S = 1.0  # seconds without a face, after which its track ends
MAX_FPS = 1000.0  # a larger frame rate in a file is no frame rate but a time base
TIME_TOLERANCE_S = 1e-4  # of a frame's time against the time at which the next frame is due


class Frame(NamedTuple):
    """A frame of a video."""

    number: int  # from 0
    time_s: float  # since the first frame
    image: np.ndarray  # [H, W, 3] uint8, RGB


class FrameFaces(NamedTuple):
    """n faces of a frame."""

    frame: Frame
    boxes: list[Box]  # from left to right
    tracks: list[int]  # track numbers
    probabilities: np.ndarray  # [n, C] float32; [0, 0] without a face


_Batch = list[tuple[Frame, FaceCrops]]


class Reader:
    """Reads the frames of a video file or a camera, each once. `frames` iterates over them.

    A `with` block opens a closed reader again, at the first frame.
    """

    def __init__(self, source: str):
        """Opens the video.

        Args:
          source: a path of a local file, or "camera:N".

        Raises:
          UserError: the file is missing, is empty or cannot be decoded; there is no such camera; or OpenCV is missing.
        """
        camera = CAMERA.fullmatch(source)
        if not camera:
            _check_file(source)
        self.source, self.is_camera = source, bool(camera)
        self.count = 0  # frames read
        self._duration_s, self._ended = 0.0, False
        self._cv2 = _import_opencv()
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg writes messages about damage to standard error
        self._capture = self._open()
        fps = self._capture.get(self._cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= MAX_FPS else None  # frames a second; None if the file states none
        total = self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(total) if not camera and 0 < total < 1e9 else None  # frames as the file states, or None

    def frames(self, every_s: float | None = None) -> Iterator[Frame]:
        """Iterates over frames.

        Args:
          every_s: interval in seconds; the first frame of each interval is returned. None for all frames.

        Yields:
          Frames with increasing times: timestamps of the file, which may have a variable frame rate; or, where it has
          none, multiples of the frame duration. Frames of a camera have the time at which they arrived.

        Raises:
          UserError: no frame can be decoded, or the video has neither timestamps nor a frame rate.
        """
        first_s, time_s, due_s = None, -math.inf, 0.0
        while self._capture.grab():
            now = time.monotonic() if self.is_camera else self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
            first_s = now if first_s is None else first_s
            time_s = self._time_after(time_s, now - first_s)
            number, self.count, self._duration_s = self.count, self.count + 1, time_s
            if time_s < due_s - TIME_TOLERANCE_S:
                continue
            decoded, image = self._capture.retrieve()
            if not decoded:
                continue
            if every_s is not None:
                due_s = every_s * (math.floor((time_s + TIME_TOLERANCE_S) / every_s) + 1)
            yield Frame(number, time_s, self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB))
        self._ended = True
        if not self.count:
            raise UserError(f"{self.source} holds no frame that can be decoded: it is damaged, cut off or empty.")

    def check_complete(self) -> None:
        """Checks that a video whose last frame was read is as long as the file states.

        Raises:
          UserError: it ends early.
        """
        if not self._ended or self.total is None or self.fps is None:
            return
        # Files with a variable frame rate state an estimated count, so the duration must be too short as well.
        if self.count < 0.95 * self.total - 1 and self._duration_s < 0.95 * self.total / self.fps - 1 / self.fps:
            raise UserError(
                f"{self.source} ends after {self.count:,} of {self.total:,} frames, at {self._duration_s:.1f} s: it is "
                "damaged or cut off. The frames before were analysed."
            )

    def close(self) -> None:
        """Closes the video."""
        self._capture.release()

    def __enter__(self) -> Reader:
        if not self._capture.isOpened():
            self._capture = self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> Any:
        """Returns the opened video.

        Raises:
          UserError: it cannot be opened.
        """
        camera = CAMERA.fullmatch(self.source)
        with log_suppression.suppress_stderr():
            capture = (
                self._cv2.VideoCapture(int(camera[1]))
                if camera
                else self._cv2.VideoCapture(self.source, self._cv2.CAP_FFMPEG)
            )
        if not capture.isOpened():
            raise UserError(_describe_unopened(self.source))
        return capture

    def _time_after(self, previous_s: float, stated_s: float) -> float:
        """Returns the time of a frame after one at `previous_s`: the stated time if it is later."""
        if stated_s > previous_s:
            return max(stated_s, 0.0)
        if self.fps is None:
            raise UserError(
                f"{self.source} states neither timestamps nor a frame rate, so its frames have no times: convert it to "
                "MP4."
            )
        return previous_s + 1 / self.fps


def recognize(
    frames: Iterable[Frame],
    extract: Callable[..., FaceCrops],
    predict: Callable[[np.ndarray], np.ndarray],
    max_gap_s: float = MAX_GAP_S,
    smoother: tracking.Smoother | None = None,
    batch_size: int = BATCH,
) -> Iterator[FrameFaces]:
    """Detects, follows and classifies the faces of frames.

    Args:
      frames: in order of time.
      extract: detects and crops the faces of an RGB image, called as `fer.predict.face_detection.extract_faces` with
        an image and the keyword `detector`.
      predict: maps faces uint8 [n, 48, 48, 1] to probabilities float32 [n, C]; called with at most `batch_size` faces
        unless one frame has more.
      max_gap_s: as for `tracking.update`.
      smoother: smooths the probabilities of each track; None for those of each frame alone.
      batch_size: faces classified together. 1 gives the faces of a frame without waiting for the next frame.

    Yields:
      The faces of each frame; a frame without faces has empty ones.
    """
    tracks = tracking.Tracks()
    for frame, faces, rows in _classify(_batches(_extract_all(frames, extract), batch_size), predict, batch_size > 1):
        height, width = frame.image.shape[:2]
        boxes = [Box(0, 0, width, height)] if faces.boxes is None else faces.boxes
        tracks, numbers = tracking.update(tracks, boxes, frame.time_s, max_gap_s)
        if smoother is not None:
            smoothed = [smoother.update(number, frame.time_s, row) for number, row in zip(numbers, rows)]
            rows = np.array(smoothed, np.float32).reshape(rows.shape)
            smoother.keep(track.number for track in tracks.active)
        yield FrameFaces(frame, boxes, numbers, rows)


def max_gap(every_s: float | None) -> float:
    """Returns the gap after which a track ends: `MAX_GAP_S`, or two intervals of the frames if that is longer."""
    return max(MAX_GAP_S, 2 * (every_s or 0.0) + TIME_TOLERANCE_S)


def _extract_all(frames: Iterable[Frame], extract: Callable[..., FaceCrops]) -> Iterator[tuple[Frame, FaceCrops]]:
    """Detects the faces of frames: as in a picture every `SEARCH_INTERVAL_S`, and near the last boxes in between.

    If a face is lost, its frame is searched as a picture.
    """
    due_s = 0.0
    boxes: list[Box] = []
    for frame in frames:
        image = Image.fromarray(frame.image)
        near = extract(image, detector=functools.partial(_detect_near, boxes=boxes)) if frame.time_s < due_s else None
        if near is not None and len(near.images) >= len(boxes):
            crops = near
        else:
            crops = extract(image, detector=None)
            due_s = frame.time_s + SEARCH_INTERVAL_S - TIME_TOLERANCE_S
        boxes = crops.boxes or []
        yield frame, crops


def _detect_near(image: Image.Image, boxes: Sequence[Box]) -> list[Box]:
    return detect_near(image, boxes) if boxes else []


def _classify(
    batches: Iterable[_Batch], predict: Callable[[np.ndarray], np.ndarray], overlap: bool
) -> Iterator[tuple[Frame, FaceCrops, np.ndarray]]:
    """Yields frames with their faces and probabilities [n, C]; [0, 0] in a batch without faces.

    With `overlap`, a thread computes the probabilities of a batch while the next one is read.
    """
    with futures.ThreadPoolExecutor(1) as pool:
        waiting: list[tuple[_Batch, futures.Future[np.ndarray] | None]] = []
        for batch in batches:
            images = [faces.images for _, faces in batch if len(faces.images)]
            waiting.append((batch, pool.submit(predict, np.concatenate(images)) if images else None))
            if len(waiting) > overlap:
                yield from _split(*waiting.pop(0))
        for rest in waiting:
            yield from _split(*rest)


def _split(batch: _Batch, future: futures.Future[np.ndarray] | None) -> Iterator[tuple[Frame, FaceCrops, np.ndarray]]:
    probabilities = np.empty([0, 0], np.float32) if future is None else future.result()
    start = 0
    for frame, faces in batch:
        yield frame, faces, probabilities[start : start + len(faces.images)]
        start += len(faces.images)


def _batches(found: Iterable[tuple[Frame, FaceCrops]], size: int) -> Iterator[_Batch]:
    """Collects frames until they have `size` faces, or reach `MAX_FRAMES` or `MAX_BYTES`."""
    batch: _Batch = []
    faces = held = 0
    for frame, crops in found:
        count = len(crops.images)
        full = faces + count > size or len(batch) == MAX_FRAMES or held + frame.image.nbytes > MAX_BYTES
        if batch and full:
            yield batch
            batch, faces, held = [], 0, 0
        batch.append((frame, crops))
        faces, held = faces + count, held + frame.image.nbytes
        if faces >= size:
            yield batch
            batch, faces, held = [], 0, 0
    if batch:
        yield batch


def _check_file(path: str) -> None:
    """Checks that a file can be opened and is not empty.

    Raises:
      UserError: it cannot, or it is.
    """
    if is_remote(path):
        raise UserError(f"{path} is in an object store, from which no video is read: copy it to a local disk first.")
    if not os.path.isfile(path):
        raise UserError(f"There is no video file {path}.")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    if empty:
        raise UserError(f"{path} is empty: it holds no video.")


def _describe_unopened(source: str) -> str:
    camera = CAMERA.fullmatch(source)
    if camera:
        return f"Camera {camera[1]} is missing or in use: connect one, close other programs, or name a video file."
    return (
        f"{source} cannot be read as a video: it is damaged, cut off, has no video stream (audio only) or a codec that "
        "OpenCV does not have. Convert it to MP4 or name another file."
    )


def _import_opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise UserError(f"Videos need OpenCV, which is not installed: {install_command('photos')}.") from error
    return cv2
