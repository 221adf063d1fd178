"""Predicts a video: rows of a CSV file, an annotated copy, a plot of the classes over time, and a summary."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import math
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
MIN_FPS = 1.0  # of an annotated copy; OpenCV rounds frame rates to 0.001, which changes the speed of lower ones
MAX_PAUSE_S = 600.0  # between two frames of an annotated copy; longer ones are damaged timestamps or fill the disk


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
    notes: list[str] = []
    with video.Reader(request.source) as reader, transaction() as stage:
        found = video.recognize(
            reader.frames(every_s),
            extract,
            compute,
            max_gap_s,
            None if request.smooth is None else tracking.Smoother(request.smooth),
            1 if reader.is_camera else video.BATCH,
        )
        with _open_outputs(request, stage, reader.fps, classes, notes) as outputs:
            _write_frames(found, reader, [statistics.add, *outputs])
        plot = request.plot()
        if plot is not None:
            files.write_bytes(stage(plot), output_mark.mark(_draw(statistics, request, classes)))
    lines = _summary(request, statistics, reader.count, time.monotonic() - started)
    print("\n".join(map(escaping.escape_line, [*lines, *notes])), file=results)
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
    request: VideoRequest, stage: Callable[[str], str], fps: float | None, classes: Sequence[str], notes: list[str]
) -> Iterator[list[Callable[[FrameFaces], None]]]:
    """Yields the functions that write the faces of a frame to the files of a request; adds to `notes` for the user."""
    with contextlib.ExitStack() as stack:
        outputs: list[Callable[[FrameFaces], None]] = []
        copy: AnnotatedVideo | None = None
        if request.output is not None:
            if local_write.is_special(request.output):
                special = stack.enter_context(local_write.open_special(request.output))
                write: Callable[[bytes], object] = functools.partial(local_write.write_all, special)
            else:
                write = stack.enter_context(files.open_new(stage(request.output))).write
            outputs.append(CsvWriter(write, classes).add)
        if request.annotate is not None:
            every_s = request.every_s()
            max_pause_s = max(MAX_PAUSE_S, 2 * (every_s or 0.0))
            staged, copied_fps = stage(request.annotate), _copied_fps(fps, every_s)
            copy = stack.enter_context(
                _open_annotated(request.annotate, staged, copied_fps, tuple(classes), max_pause_s)
            )
            outputs.append(copy.add)
        yield outputs
        if copy is not None and round(copy.omitted_s):
            notes.append(
                f"{request.annotate} is {copy.omitted_s:.0f} s shorter than the input: pauses between frames are cut "
                f"to {copy.max_pause_s:.0f} s"
            )


def _copied_fps(fps: float | None, every_s: float | None) -> float:
    """Returns the frame rate of an annotated copy: one frame for each analysed one, or several if it is too low."""
    fps = fps or DEFAULT_FPS
    if every_s is not None:
        fps = min(fps, 1 / every_s)
    copies = math.ceil(MIN_FPS / fps - 1e-6)
    return fps if copies <= 1 else math.ceil(100 * copies * fps - 1e-6) / 100


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
    path: str, staged: str, fps: float, classes: tuple[str, ...], max_pause_s: float
) -> Iterator[AnnotatedVideo]:
    """Yields an annotated copy of a video, to add frames to. It is complete when the block ends.

    Args:
      path: of the copy, for messages. Its extension decides the format.
      staged: path to write to.
      fps: frames a second of the copy.
      classes: their names, in label order.
      max_pause_s: as for `AnnotatedVideo`.

    Raises:
      StorageError: the copy cannot be written.
    """
    ending = os.path.splitext(path)[1].lower()
    with temp_files.folder("video", os.path.dirname(staged)) as folder:
        copy = AnnotatedVideo(os.path.join(folder, f"copy{ending}"), fps, CODECS[ending], classes, max_pause_s)
        try:
            yield copy
        finally:
            copy.close()
        if not copy.is_complete():
            raise StorageError(f"Cannot write {path}: OpenCV stopped. Free some space or choose another --annotate.")
        os.replace(copy.path, staged)


class AnnotatedVideo:
    """Writes frames with labelled faces to a video of constant frame rate, each at its time."""

    def __init__(self, path: str, fps: float, codec: str, classes: tuple[str, ...], max_pause_s: float = MAX_PAUSE_S):
        """Starts without frames.

        Args:
          path: of the video.
          fps: its frames a second.
          codec: four characters.
          classes: their names, in label order.
          max_pause_s: seconds for which a frame is repeated at most.
        """
        import cv2

        self.path, self._fps, self._codec, self._classes = path, fps, codec, classes
        self.max_pause_s, self.omitted_s = max_pause_s, 0.0  # seconds of longer pauses that the copy does not have
        self._time_s = 0.0  # of the last frame
        self._cv2: Any = cv2
        self._writer: Any = None
        self._last = np.empty([0, 0, 3], np.uint8)  # the last frame, BGR
        self._written = 0

    def add(self, found: FrameFaces) -> None:
        """Adds a frame. The frame before is repeated until the time of this one, for at most `max_pause_s`."""
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
        self.omitted_s += max(0.0, found.frame.time_s - self._time_s - self.max_pause_s)
        self._time_s = found.frame.time_s
        position = round((found.frame.time_s - self.omitted_s) * self._fps)
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
        f"{request.source}: {statistics.frames:,} of {read:,} frames analysed, "
        f"{statistics.duration_s:.1f} s, {read / max(seconds, 1e-9):.0f} frames/s"
    )
    found = statistics.lines() or ["no face was found; --faces=whole takes each frame as one face"]
    paths = [path for path in (request.annotate, request.output, request.plot()) if path is not None]
    return [first, *found, *(f"wrote {path}" for path in paths)]
