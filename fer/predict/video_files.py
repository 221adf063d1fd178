"""Predicts a video: rows of a CSV file, an annotated copy, a plot of the classes over time, and a summary."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

import numpy as np
from PIL import Image

from fer import escaping, log_suppression
from fer.errors import StorageError
from fer.evaluation.prediction_files import BOX
from fer.io import files, local_write, temp_files
from fer.io.transaction import transaction
from fer.predict import face_detection, output_mark, tracking, video
from fer.predict.track_statistics import TrackStatistics
from fer.predict.video import FrameFaces
from fer.predict.video_request import CODECS, VideoRequest
from fer.progress import ImageProgress

DEFAULT_FPS = 25.0  # of an annotated copy of a video without a frame rate


def predict(
    request: VideoRequest,
    extract: Callable[[Image.Image], face_detection.FaceCrops],
    compute: Callable[[np.ndarray], np.ndarray],
    classes: Sequence[str],
    results: TextIO,
) -> None:
    """Predicts a video and writes its files; without a face the CSV file has no rows.

    The analysis of a camera ends at an interrupt (Ctrl-C), and its results are written.

    Args:
      request: input and outputs.
      extract: as for `video.recognize`.
      compute: `predict` of `video.recognize`.
      classes: names of the C classes.
      results: file that the summary is printed to.

    Raises:
      UserError: the video cannot be read or ends early, or a file cannot be written. Of a video that ends early, the
        results so far are written.
    """
    every_s = request.every_s()
    max_gap_s = video.max_gap(every_s)
    statistics = TrackStatistics(classes, max_gap_s)
    started = time.monotonic()
    with video.Reader(request.source) as reader, transaction() as stage:
        found = video.recognize(
            reader.frames(every_s),
            extract,
            compute,
            max_gap_s,
            None if request.smooth is None else tracking.Smoother(request.smooth),
            1 if reader.is_camera else video.BATCH,
        )
        with _open_outputs(request, stage, reader.fps, classes) as outputs:
            _write_frames(found, reader, [statistics.add, *outputs])
        plot = request.plot()
        if plot is not None:
            files.write_bytes(stage(plot), output_mark.mark(_draw(statistics, request, classes)))
    print("\n".join(_summary(request, statistics, reader.count, time.monotonic() - started)), file=results)
    reader.check_complete()


def _write_frames(
    found: Iterable[FrameFaces], reader: video.Reader, outputs: Sequence[Callable[[FrameFaces], None]]
) -> None:
    """Passes frames to the outputs and shows the progress.

    It ends early if the reader of a pipe exits, and at an interrupt of a camera.
    """
    ends = (BrokenPipeError, KeyboardInterrupt) if reader.is_camera else (BrokenPipeError,)
    done = 0
    with ImageProgress("predicting", "frame") as progress, contextlib.suppress(*ends):
        for faces in found:
            for write in outputs:
                write(faces)
            progress.update(faces.frame.number + 1 - done, reader.total)
            done = faces.frame.number + 1


@contextlib.contextmanager
def _open_outputs(
    request: VideoRequest, stage: Callable[[str], str], fps: float | None, classes: Sequence[str]
) -> Iterator[list[Callable[[FrameFaces], None]]]:
    """Yields the functions that write the faces of a frame to the files of a request."""
    with contextlib.ExitStack() as stack:
        outputs: list[Callable[[FrameFaces], None]] = []
        if request.output is not None:
            if local_write.is_special(request.output):
                special = stack.enter_context(local_write.open_special(request.output))
                write: Callable[[bytes], object] = functools.partial(local_write.write_all, special)
            else:
                write = stack.enter_context(files.open_new(stage(request.output))).write
            outputs.append(CsvWriter(write, classes).add)
        if request.annotate is not None:
            copied_fps = min(fps or DEFAULT_FPS, 1 / (request.every_s() or 1e-9))
            copy = _open_annotated(request.annotate, stage(request.annotate), copied_fps, tuple(classes))
            outputs.append(stack.enter_context(copy))
        yield outputs


class CsvWriter:
    """Writes a row for each face: frame, time, track, label, class name, probabilities and box."""

    def __init__(self, write: Callable[[bytes], object], classes: Sequence[str]):
        """Starts a file, whose header is written with the first frame.

        Args:
          write: writes bytes to the file.
          classes: names of the C classes.
        """
        self._write = write
        self._classes = [escaping.escape_cell(name) for name in classes]
        self._header: list[Sequence[object]] = [["frame", "time", "track", "label", "name", *self._classes, *BOX]]

    def add(self, found: FrameFaces) -> None:
        """Writes the faces of a frame."""
        header, self._header = self._header, []
        start = [found.frame.number, f"{found.frame.time_s:.3f}"]
        rows = [
            [*start, number, label, self._classes[label], *(f"{probability:.6f}" for probability in row), *box]
            for number, row, box in zip(found.tracks, found.probabilities, found.boxes)
            for label in [int(row.argmax())]
        ]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*header, *rows])
        if text.tell():
            self._write(text.getvalue().encode())


@contextlib.contextmanager
def _open_annotated(
    path: str, staged: str, fps: float, classes: tuple[str, ...]
) -> Iterator[Callable[[FrameFaces], None]]:
    """Yields a function that adds a frame to an annotated copy of a video, which is complete when the block ends.

    Args:
      path: of the copy, for messages. Its extension decides the format.
      staged: path to write to.
      fps: frames a second of the copy.
      classes: their names, in label order.

    Raises:
      StorageError: the copy cannot be written.
    """
    ending = os.path.splitext(path)[1].lower()
    with temp_files.folder("video", os.path.dirname(staged)) as folder:
        copy = AnnotatedVideo(os.path.join(folder, f"copy{ending}"), fps, CODECS[ending], classes)
        try:
            yield copy.add
        finally:
            copy.close()
        if not copy.is_complete():
            raise StorageError(f"Cannot write {path}: OpenCV stopped. Free some space or choose another --annotate.")
        os.replace(copy.path, staged)


class AnnotatedVideo:
    """Writes frames with labelled faces to a video of constant frame rate, each at its time."""

    def __init__(self, path: str, fps: float, codec: str, classes: tuple[str, ...]):
        """Starts without frames.

        Args:
          path: of the video.
          fps: its frames a second.
          codec: four characters.
          classes: their names, in label order.
        """
        import cv2

        self.path, self._fps, self._codec, self._classes = path, fps, codec, classes
        self._cv2: Any = cv2
        self._writer: Any = None
        self._last = np.empty([0, 0, 3], np.uint8)  # the last frame, BGR
        self._written = 0

    def add(self, found: FrameFaces) -> None:
        """Adds a frame. The frame before is repeated until the time of this one."""
        photo = face_detection.annotate(
            Image.fromarray(found.frame.image), found.boxes, found.probabilities, self._classes
        )
        image = self._cv2.cvtColor(np.asarray(photo), self._cv2.COLOR_RGB2BGR)
        if self._writer is None:
            self._last = image
            fourcc = self._cv2.VideoWriter_fourcc(*self._codec)
            with log_suppression.suppress_stderr():
                self._writer = self._cv2.VideoWriter(self.path, self._cv2.CAP_FFMPEG, fourcc, self._fps, photo.size)
        if image.shape != self._last.shape:  # the size of the frames changed
            image = self._cv2.resize(image, self._last.shape[1::-1])
        position = round(found.frame.time_s * self._fps)
        while self._written <= position:
            self._writer.write(image if self._written == position else self._last)
            self._written += 1
        self._last = image

    def close(self) -> None:
        """Completes the file."""
        if self._writer is not None:
            self._writer.release()

    def is_complete(self) -> bool:
        """Returns whether the closed file can be read and has its frames; OpenCV reports no error of writing."""
        with log_suppression.suppress_stderr():
            capture = self._cv2.VideoCapture(self.path, self._cv2.CAP_FFMPEG)
        count = capture.get(self._cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0
        capture.release()
        return bool(count >= 0.9 * self._written - 1 and count)


def _draw(statistics: TrackStatistics, request: VideoRequest, classes: Sequence[str]) -> bytes:
    """Draws the classes of the longest tracks over time as a PNG."""
    from fer.viz import timeline_plot  # here because only a plot needs matplotlib

    timelines = [
        timeline_plot.Timeline(f"track {track.number}: {', '.join(statistics.shares(track)[:3])}", *track.timeline())
        for track in statistics.tracks(timeline_plot.MAX_PANELS)
    ]
    title = escaping.escape_line(os.path.basename(request.source))
    step_s = max(statistics.bin_s, request.every_s() or 0.0)
    return timeline_plot.class_timelines(timelines, classes, title, statistics.duration_s, step_s)


def _summary(request: VideoRequest, statistics: TrackStatistics, read: int, seconds: float) -> list[str]:
    """Returns the lines of the summary: counts and throughput, a line for each track, and the written files."""
    first = (
        f"{escaping.escape_line(request.source)}: {statistics.frames:,} of {read:,} frames analysed, "
        f"{statistics.duration_s:.1f} s, {read / max(seconds, 1e-9):.0f} frames/s"
    )
    found = statistics.lines() or ["no face was found; --faces=whole takes each frame as one face"]
    paths = [path for path in (request.annotate, request.output, request.plot()) if path is not None]
    return [first, *found, *(f"wrote {path}" for path in paths)]
