"""Predicts the expressions in pictures and tables, and prints or writes them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

import numpy as np

from fer import escaping, streams
from fer.convert.readers import image_reader, unsupported_files
from fer.errors import UserError, shorten
from fer.evaluation import inference
from fer.models import loading
from fer.predict import classification, face_detection, input_readers, result_files, video, video_files
from fer.predict.box_file import BoxFile
from fer.predict.classification import Face, Result, Source
from fer.predict.video_request import VideoRequest
from fer.progress import ImageProgress

MAX_LISTED_FACES = 10  # printed one by one beside a file; of more faces, counts by class are printed


@dataclasses.dataclass(frozen=True)
class PredictRequest:
    """Inputs and options of a prediction."""

    workdirs: Sequence[str]  # whose probabilities are averaged
    inputs: Sequence[str]  # as for `input_readers.read`
    faces: str = "auto"  # of `fer.config.FACES`
    fit: str = "stretch"  # of `fer.config.FITS`
    tta: str = "none"  # of `fer.config.TTA`
    output: str | None = None  # path of a CSV file
    kaggle: bool = False  # writes a submission to the challenge instead
    boxes: BoxFile | None = None  # of the faces, instead of detected ones


class Printer(Protocol):
    """Prints results."""

    def add(self, result: Result) -> None:
        """Prints a result."""

    def close(self) -> None:
        """Ends the output."""


class LinePrinter:
    """Prints a line for each face, and for each picture without a face."""

    def __init__(self, file: TextIO):
        self._file = file

    def add(self, result: Result) -> None:
        """Prints a result; a picture that cannot be read has no line."""
        self._file.writelines(f"{line}\n" for line in format_lines(result))
        self._file.flush()

    def close(self) -> None:
        """Does nothing: each line is complete."""


class JsonPrinter:
    """Prints one JSON array with an object for each picture or row of a table."""

    def __init__(self, file: TextIO):
        self._file = file
        self._before = "[\n"

    def add(self, result: Result) -> None:
        """Prints the object of a result on a line."""
        self._file.write(self._before + json.dumps(to_json(result)))
        self._file.flush()
        self._before = ",\n"

    def close(self) -> None:
        """Ends the array."""
        self._file.write("[]\n" if self._before == "[\n" else "\n]\n")
        self._file.flush()


def predict(request: PredictRequest, printer: Printer | None = None) -> None:
    """Predicts the faces of all inputs.

    Pictures that cannot be read do not end the prediction. They are listed on standard error at the end.

    Args:
      request: inputs and options. A summary is printed if the output is a file.
      printer: receives each result when it is predicted.

    Raises:
      UserError: a row of a table or an input cannot be read, there are no faces to write, a file cannot be written, or
        a submission is requested from a network with other classes than those of the challenge.
    """
    summary = Summary(request.inputs)
    if request.kaggle:
        result_files.check_submission_classes(request.workdirs, loading.read_classes(request.workdirs))
    network = Network(request.workdirs, request.tta)

    def extract(source: Source) -> face_detection.FaceCrops:
        if request.boxes is not None:
            return request.boxes.extract(source)
        return face_detection.extract_faces(source.picture, request.faces, request.fit)

    with contextlib.ExitStack() as stack:
        written = None
        if request.output is not None:
            written = stack.enter_context(result_files.open_files(request.output, request.inputs, request.kaggle))
        if printer is not None:
            stack.callback(printer.close)
        progress = stack.enter_context(ImageProgress("predicting"))
        sources = input_readers.read(request.inputs, summary.skipped)
        for result in classification.classify(sources, extract, network, network.classes):
            if request.boxes is not None:
                request.boxes.mark_used(result.source)
            summary.add(result)
            if written is not None:
                written.add(result)
            if printer is not None:
                with progress.hidden():
                    printer.add(result)
                if written is None and streams.stdout_is_closed():
                    return
            progress.update(1)
        if request.boxes is not None:
            summary.unused_boxes += request.boxes.unused()
        summary.check(written is not None)
    if written is not None and printer is None:
        lines = [*summary.lines(network.images_per_second), *(f"wrote {path}" for path in written.paths)]
        print("\n".join(map(escaping.escape_line, lines)))
    summary.report(request.output)


def predict_video(request: PredictRequest, video_request: VideoRequest, results: TextIO) -> None:
    """Predicts a video and prints its summary.

    Args:
      request: networks and options; inputs and output are those of `video_request`.
      video_request: the video, its outputs and options.
      results: file to print to.

    Raises:
      UserError: as `fer.predict.video_files.predict`.
    """
    network = Network(request.workdirs, request.tta, video.BATCH)
    extract = functools.partial(face_detection.extract_faces, faces=request.faces, fit=request.fit)
    video_files.predict(video_request, extract, network, network.classes, results)


class Network:
    """The average of one or several networks, compiled at the first call for batches of one size."""

    def __init__(self, workdirs: Sequence[str], tta: str, batch_size: int | None = None):
        """Opens the networks.

        Args:
          workdirs: of the networks.
          tta: of `fer.config.TTA`.
          batch_size: faces computed together; by default the size of the first call.

        Raises:
          UserError: as `fer.models.loading.open_run`, or the networks have different classes.
        """
        self.classes = loading.read_classes(workdirs)
        self._models = [loading.open_network(workdir) for workdir in workdirs]
        self._tta, self._batch_size = tta, batch_size
        self._compute: Callable[[np.ndarray, Callable[[int], None]], np.ndarray] | None = None
        self._timed, self._seconds = 0, 0.0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Maps faces uint8 [n, 48, 48, 1] to probabilities float32 [n, C]."""
        if self._compute is None:
            size = self._batch_size or inference.fitting_batch_size(len(images))
            self._compute = inference.make_predict_fn(self._models, size, self._tta, warm_up=False)
            return self._compute(images, lambda _: None)
        start = time.perf_counter()
        probabilities = self._compute(images, lambda _: None)
        self._seconds += time.perf_counter() - start
        self._timed += len(images)
        return probabilities

    @property
    def images_per_second(self) -> float | None:
        """Returns the throughput without the first call, which compiles; None if there is no other."""
        return self._timed / self._seconds if self._timed else None


class Summary:
    """Counts of results, and what could not be read."""

    def __init__(self, inputs: Sequence[str]):
        self.skipped: collections.Counter[str] = collections.Counter()
        self.unused_boxes: list[str] = []  # a message for each path in --boxes that is none of the inputs
        self._title = inputs[0] if len(inputs) == 1 else f"{len(inputs):,} inputs"
        self._classes: collections.Counter[str] = collections.Counter()
        self._altered: collections.Counter[str] = collections.Counter()
        self._lines: list[str] = []
        self._faceless: list[str] = []
        self._unreadable: list[str] = []

    def add(self, result: Result) -> None:
        """Counts a result."""
        self._classes.update(face.name for face in result.faces)
        self._altered.update(result.altered)
        if result.error:
            self._unreadable.append(result.error)
        elif not result.faces:
            self._faceless.append(result.source.path)
        elif len(self._lines) <= MAX_LISTED_FACES:
            self._lines += format_lines(result)

    def check(self, needs_faces: bool) -> None:
        """Checks that something was read, or that there are faces if they are needed.

        Raises:
          UserError: says why there is none, and what to do.
        """
        if self._classes or not (self._unreadable or needs_faces) or (self._faceless and not needs_faces):
            return
        if self._unreadable:
            others = f", and no face was found in {len(self._faceless):,} others" if self._faceless else ""
            advice = ". Repair or remove them" if len(self._unreadable) > 1 else ""
            raise UserError(f"{_first_names(self._unreadable)}{others}{advice}.")
        if self.unused_boxes:
            raise UserError(f"{_first_names(self.unused_boxes)}, so there are no faces. Correct --boxes.")
        raise UserError(
            f"No face was found in {_first_names(self._faceless)}. --faces=whole takes a picture as one face."
        )

    def lines(self, rate: float | None) -> list[str]:
        """Describes the faces: one by one, or counts by class of many."""
        count = sum(self._classes.values())
        throughput = "" if rate is None else f", {rate:.0f} images/s"
        if count > MAX_LISTED_FACES:
            classes = ", ".join(f"{name} {number:,}" for name, number in self._classes.most_common())
            return [f"{count:,} faces from {self._title}{throughput}: {classes}"]
        return [f"{count} face{'s' * (count != 1)} from {self._title}{throughput}", *self._lines]

    def report(self, output: str | None) -> None:
        """Prints alterations, skipped files and, last, what cannot be read. Call it after all results are written.

        Args:
          output: path of the written file; None if the results were printed.

        Raises:
          UserError: pictures cannot be read and have no prediction.
        """
        for name, description in image_reader.ALTERATIONS.items():
            if self._altered[name]:
                print(f"{self._altered[name]:,} pictures {description}")
        for path in self._faceless if output is not None else ():
            print(f"no face was found in {escaping.escape_line(path)}")
        if self.skipped:
            print(f"skipped files of other formats: {unsupported_files.describe_counts(self.skipped)}")
        errors = [*self._unreadable, *self.unused_boxes]
        if errors:
            print("\n".join(escaping.escape_line(shorten(text)) for text in errors), file=sys.stderr)
            faults = [f"{len(self._unreadable):,} picture{'s' * (len(self._unreadable) > 1)} could not be read"]
            paths = len(self.unused_boxes)
            faults = faults * bool(self._unreadable) + [f"--boxes names {paths:,} other pictures"] * bool(paths)
            rest = f"; {output} has the other {sum(self._classes.values()):,} faces" if output is not None else ""
            raise UserError(f"{' and '.join(faults)} (listed above). Repair or remove them{rest}.")


def format_lines(result: Result) -> list[str]:
    """Returns a line for each face of a result with its two most probable classes; none if it cannot be read."""
    title = escaping.escape_line(result.source.title)
    if not result.faces:
        return [] if result.error else [f"{title}: no face found"]
    titles = [title] if len(result.faces) == 1 else [f"{title}#{number}" for number in range(1, len(result.faces) + 1)]
    return [f"{each}: {_format_classes(face)}" for each, face in zip(titles, result.faces)]


def to_json(result: Result) -> dict[str, object]:
    """Returns the object of a result in the JSON output: path, row of a table, and faces or the error."""
    source = result.source
    found: dict[str, object] = {"path": source.path}
    if source.row is not None:
        found["row"] = source.row
    if result.error:
        return {**found, "error": result.error}
    faces = [
        {
            "box": None if face.box is None else face.box._asdict(),
            "label": face.label,
            "name": face.name,
            "probabilities": {name: round(value, 6) for name, value in face.probabilities.items()},
        }
        for face in result.faces
    ]
    return {**found, "faces": faces}


def _format_classes(face: Face) -> str:
    best = sorted(face.probabilities.items(), key=lambda item: -item[1])[:2]
    return ", ".join(f"{name} {100 * value:.0f} %" for name, value in best if value >= 0.005)


def _first_names(names: Sequence[str], count: int = 3) -> str:
    """Joins the first `count` names on one line and says how many more there are."""
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(map(escaping.escape_line, names[:count])) + more
