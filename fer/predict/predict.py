"""Checks, writes and summarizes predictions: a CSV file and annotated copies of photos."""

from __future__ import annotations

import collections
import itertools
import os
import sys
from collections.abc import Sequence

import numpy as np

from fer import escaping
from fer.convert.readers import image_reader, unsupported_files
from fer.errors import UserError, shorten
from fer.evaluation import prediction_files
from fer.evaluation.inference import Prediction
from fer.io import files, local_write
from fer.labels import CLASSES
from fer.predict import face_detection, input_readers

MAX_LISTED_FACES = 10  # printed one by one; of more faces, counts by class are printed
from fer.io.transaction import transaction


def check(source: str, output: str, faces: input_readers.Faces, kaggle: bool) -> None:
    """Checks before the prediction that `write` can write and replaces no file of the input.

    Args:
      source: path that `faces` were read from.
      output: as for `write`.
      faces: as for `write`.
      kaggle: as for `write`.

    Raises:
      UserError: a submission is requested for pictures; the CSV file would replace a file of the input or cannot be
        written; or annotated photos would be written among the photos of the input or over them.
    """
    if kaggle and faces.pictures:
        raise UserError(
            "--kaggle writes labels in the order of a table's rows, and --input has pictures. Omit --kaggle."
        )
    originals, written = os.path.realpath(source), os.path.realpath(output)
    if written == originals or (f"{written}/".startswith(f"{originals}/") and os.path.exists(written)):
        raise UserError(f"--output={output} would replace a file of --input. Name another.")
    files.check_writable(output)
    if not faces.photos or local_write.is_special(output):
        return
    copies = os.path.realpath(_photo_folder(output))
    if f"{copies}/".startswith(f"{originals}/") or copies == os.path.dirname(originals):
        raise UserError(
            f"Annotated photos would be written to {_photo_folder(output)}, among those of --input. Choose another "
            "--output."
        )


def write(output: str, faces: input_readers.Faces, probabilities: np.ndarray, kaggle: bool) -> list[str]:
    """Writes the CSV file and an annotated copy of each photo. If a local write fails, nothing is written.

    Args:
      output: path of the CSV file. The photos go into the folder <output without its extension>-photos under their own
        names; if `output` is a device or a pipe, they are not written.
      faces: n faces that `check` has accepted.
      probabilities: [n, 7] float32.
      kaggle: writes a submission to the challenge instead; for tables.

    Returns:
      The paths of the written files.

    Raises:
      UserError: a file cannot be written.
    """
    photo_paths: list[str] = []
    boxes: list[tuple[int, ...]] = [()] * len(faces.names)
    for photo in faces.photos:
        boxes[photo.first : photo.first + len(photo.boxes)] = photo.boxes
    with transaction() as stage:
        for photo in [] if local_write.is_special(output) else faces.photos:
            of_photo = slice(photo.first, photo.first + len(photo.boxes))
            path = _unused_path(os.path.join(_photo_folder(output), _file_name(photo.picture.path)), photo_paths)
            image = image_reader.decode_picture(photo.picture.read().content, "RGB").image
            picture = face_detection.annotate(image, photo.boxes, probabilities[of_photo])
            files.write_bytes(stage(path), face_detection.encode(picture, path))
            photo_paths.append(path)
        if kaggle:
            prediction_files.write_submission(stage(output), probabilities)
        else:
            prediction_files.write_csv(stage(output), faces.names, probabilities, boxes if faces.photos else None)
    return [*photo_paths, output]


def report(faces: input_readers.Faces, output: str) -> None:
    """Prints alterations, skipped files and, last, pictures that cannot be read. Call it after `write`.

    Raises:
      UserError: pictures cannot be read and have no prediction.
    """
    for name, what in image_reader.ALTERATIONS.items():
        if faces.altered.get(name):
            print(f"{faces.altered[name]:,} pictures {what}")
    for name in faces.faceless:
        print(f"no face was found in {escaping.escape_line(name)}")
    if faces.skipped:
        print(f"skipped files of other formats: {unsupported_files.describe_counts(faces.skipped)}")
    if faces.unreadable:
        print("\n".join(escaping.escape_line(shorten(text)) for text in faces.unreadable), file=sys.stderr)
        count = f"{len(faces.unreadable):,} picture{'s' * (len(faces.unreadable) > 1)}"
        raise UserError(
            f"{count} could not be read (listed above). Repair or remove them; {output} has the other "
            f"{len(faces.names):,} faces."
        )


def summary_lines(source: str, faces: input_readers.Faces, prediction: Prediction) -> list[str]:
    """Describes predictions: the two most probable classes of each of a few faces, or counts by class of many.

    Args:
      source: path that `faces` were read from.
      faces: n faces.
      prediction: of these faces.
    """
    count, single = len(faces.names), {photo.first for photo in faces.photos if len(photo.boxes) == 1}
    rate = "" if prediction.images_per_second is None else f", {prediction.images_per_second:.0f} images/s"
    if count > MAX_LISTED_FACES:
        counts = collections.Counter(CLASSES[label] for label in prediction.probabilities.argmax(axis=1))
        classes = ", ".join(f"{name} {number:,}" for name, number in counts.most_common())
        return [f"{count:,} faces from {source}{rate}: {classes}"]
    lines = [f"{count} face{'s' * (count != 1)} from {source}{rate}"]
    for position, (name, row) in enumerate(zip(faces.names, prediction.probabilities)):
        shown = name if faces.pictures else f"row {name}"
        shown = name.rpartition("#")[0] if position in single else shown
        best = [label for label in row.argsort()[::-1][:2] if row[label] >= 0.005]
        lines.append(f"{shown}: {', '.join(f'{CLASSES[label]} {100 * row[label]:.0f} %' for label in best)}")
    return lines


def _unused_path(path: str, used: Sequence[str]) -> str:
    """Returns the path, with a number before its extension if it is in `used`: archives may repeat names."""
    stem, ending = os.path.splitext(path)
    numbered = (f"{stem}-{number}{ending}" for number in itertools.count(2))
    return path if path not in used else next(other for other in numbered if other not in used)


def _photo_folder(output: str) -> str:
    return f"{os.path.splitext(output)[0]}-photos"


def _file_name(path: str) -> str:
    """Returns a photo's path relative to the folder, without "..", and with .jpg if it has no known extension."""
    path = "/".join(part for part in path.split("/") if part not in ("", ".", ".."))
    return path if path.lower().endswith((".png", ".jpg", ".jpeg")) else f"{path}.jpg"
