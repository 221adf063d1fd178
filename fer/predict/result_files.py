"""Writes predictions: a CSV file and annotated copies of photos."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fer.convert.readers import image_reader
from fer.errors import UserError, join_names
from fer.evaluation import prediction_files
from fer.io import files, local_write, temp_files
from fer.io.transaction import transaction
from fer.labels import CLASSES
from fer.predict import face_detection, inputs, output_mark
from fer.predict.classification import Result


def check_submission_classes(workdirs: Sequence[str], classes: Sequence[str]) -> None:
    """Checks that networks have the classes of the challenge, in any order.

    Args:
      workdirs: of the networks, for the message.
      classes: their names.

    Raises:
      UserError: they have not.
    """
    if sorted(classes) != sorted(CLASSES):
        raise UserError(
            f"--kaggle writes labels of {join_names(CLASSES)}, and {workdirs[0]} has the classes "
            f"{join_names(classes)}. Omit --kaggle or choose another --workdir."
        )


@contextlib.contextmanager
def open_files(output: str, inputs: Sequence[str], kaggle: bool = False) -> Iterator[ResultFiles]:
    """Yields the collector of the results; writes them when the block ends. If it fails, nothing is written.

    Args:
      output: path of the CSV file. Copies of photos with labelled faces go into the folder
        <output without its extension>-photos under their own names; if `output` is a device or a pipe, they are not
        written.
      inputs: paths that the results come from.
      kaggle: writes a submission to the challenge instead; for tables, and classes of `check_submission_classes`.

    Raises:
      UserError: a file cannot be written.
    """
    with transaction() as stage:
        found = ResultFiles(output, inputs, kaggle, stage)
        yield found
        found.write()


class ResultFiles:
    """Collects results for `open_files`. `paths` holds those of the written files."""

    def __init__(self, output: str, inputs: Sequence[str], kaggle: bool, stage: Callable[[str], str]):
        self.paths: list[str] = []
        self._output, self._kaggle, self._stage = output, kaggle, stage
        self._taken: set[str] = set()  # paths of photos
        self._inputs = [os.path.realpath(path) for path in inputs]
        self._classes: tuple[str, ...] = ()  # of the results, in label order
        self._names: list[str] = []
        self._probabilities: list[np.ndarray] = []
        self._boxes: list[tuple[int, ...]] = []

    def add(self, result: Result) -> None:
        """Adds a result; annotates a photo with faces.

        Raises:
          UserError: a submission is requested for a picture; or annotated photos would be written among the photos of
            the input or over them.
        """
        if self._kaggle and result.source.row is None and not result.error:
            raise UserError(
                "--kaggle writes labels in the order of a table's rows, and --input has pictures. Omit --kaggle."
            )
        if result.faces:
            self._classes = tuple(result.faces[0].probabilities)
        found = np.array([list(face.probabilities.values()) for face in result.faces], np.float32)
        boxes = [face.box for face in result.faces if face.box is not None]
        name = result.source.name
        self._names += [f"{name}#{number}" for number in range(1, len(boxes) + 1)] or [name] * len(found)
        self._probabilities += list(found)
        self._boxes += boxes or [()] * len(found)
        if boxes and not local_write.is_special(self._output):
            image = image_reader.decode_picture(result.source.picture, "RGB").image
            path = self._photo_path(name, max(image.size) > face_detection.MAX_JPEG_SIDE)
            photo = face_detection.annotate(image, boxes, found, self._classes)
            files.write_bytes(self._stage(path), face_detection.encode(photo, path))
            self.paths.append(path)
            self._taken.add(path)

    def write(self) -> None:
        """Writes the CSV file.

        Raises:
          UserError: it cannot be written.
        """
        probabilities = np.array(self._probabilities)
        if self._kaggle:
            ordered = probabilities[:, [self._classes.index(name) for name in CLASSES]]
            prediction_files.write_submission(self._stage(self._output), ordered)
        else:
            boxes = self._boxes if any(self._boxes) else None
            prediction_files.write_csv(self._stage(self._output), self._names, probabilities, self._classes, boxes)
        self.paths.append(self._output)

    def _photo_path(self, name: str, as_png: bool) -> str:
        """Returns the path of an annotated photo, with a number before its extension if another one has it.

        Args:
          name: of the photo.
          as_png: whether it cannot be JPEG.

        Raises:
          UserError: the path is among those of the input, or of pictures that no earlier prediction wrote.
        """
        folder = inputs.photo_folder(self._output)
        copies = os.path.realpath(folder)
        for path in self._inputs:
            if f"{copies}/".startswith(f"{path}/") or copies == os.path.dirname(path):
                raise UserError(
                    f"Annotated photos would be written to {folder}, among those of --input. Choose another --output."
                )
        if not self._taken:  # before the first photo
            output_mark.check_folder(self._output, folder)
        paths = (os.path.join(folder, _file_name(name, as_png, number)) for number in itertools.count(1))
        return next(path for path in paths if path not in self._taken)


def _file_name(path: str, as_png: bool, number: int) -> str:
    """Returns a photo's path relative to the folder, without "..", and with a known extension.

    Args:
      path: of the photo.
      as_png: whether the extension must be .png.
      number: is put before the extension if it is above 1.
    """
    *above, name = [part for part in path.split("/") if part not in ("", ".", "..")] or ["photo"]
    stem, ending = os.path.splitext(name)
    if ending.lower() not in ((".png",) if as_png else (".png", ".jpg", ".jpeg")):
        stem, ending = name, ".png" if as_png else ".jpg"
    ending = f"-{number}{ending}" if number > 1 else ending
    return "/".join([*map(_shorten, above), _shorten(stem, ending)])


def _shorten(stem: str, ending: str = "") -> str:
    """Returns `stem` + `ending`, with a shorter stem if file systems have no name of this length."""
    encoded = os.fsencode(stem)
    most = temp_files.MAX_NAME_BYTES - len(os.fsencode(ending))
    if len(encoded) > most:
        stem = encoded[:most].decode(sys.getfilesystemencoding(), "ignore")
    return stem + ending
