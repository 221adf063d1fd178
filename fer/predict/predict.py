"""One prediction, from faces in any form to a CSV and to photos with what was recognised in them."""

from __future__ import annotations

import collections
import itertools
import os
import sys
from collections.abc import Sequence

import numpy as np

from fer import escaping
from fer.convert.readers import image_reader, skipped_files
from fer.errors import UserError, shorten
from fer.evaluation import predictions
from fer.evaluation.inference import Prediction
from fer.io import files, local_write
from fer.labels import CLASSES
from fer.predict import face_detection, input_readers

FEW = 10  # faces of which each is named on the screen
from fer.io.transaction import transaction


def check(source: str, output: str, faces: input_readers.Faces, kaggle: bool) -> None:
    """Looks, before anything is computed, at what `write` would do to the input.

    Args:
      source: where `faces` were read.
      output: as of `write`.
      faces: as of `write`.
      kaggle: as of `write`.

    Raises:
      UserError: what is to be a submission is no table, or the CSV would replace a file of the input, or has no place
        to stand, or copies of photos would go among them, or over them.
    """
    if kaggle and faces.pictures:
        raise UserError("--kaggle writes labels in the order of a table's rows; pictures have none: leave it out.")
    originals, written = os.path.realpath(source), os.path.realpath(output)
    if written == originals or (f"{written}/".startswith(f"{originals}/") and os.path.exists(written)):
        raise UserError(f"--output={output} is a file of what --input names, and would be replaced: name another.")
    files.check_writable(output)
    if not faces.photos or local_write.is_special(output):
        return
    copies = os.path.realpath(_photo_folder(output))
    if f"{copies}/".startswith(f"{originals}/") or copies == os.path.dirname(originals):
        raise UserError(
            f"Photos with their faces named would go into {_photo_folder(output)}, and so among those that --input "
            "names: choose an --output elsewhere."
        )


def write(output: str, faces: input_readers.Faces, probabilities: np.ndarray, kaggle: bool) -> list[str]:
    """Writes a copy of each photo with its faces named, and the CSV: all of them or, locally, none. Returns the paths.

    Args:
      output: of the CSV; the photos go into the folder <output without its ending>-photos, under their own names, or,
        where the output is a device or a pipe, nowhere.
      faces: n of them, which `check` has passed.
      probabilities: [n, 7] float32.
      kaggle: writes the challenge's submission form instead, which is for tables.

    Raises:
      UserError: a file cannot be written.
    """
    drawn: list[str] = []
    boxes: list[tuple[int, ...]] = [()] * len(faces.names)
    for photo in faces.photos:
        boxes[photo.first : photo.first + len(photo.boxes)] = photo.boxes
    with transaction() as stage:
        for photo in [] if local_write.is_special(output) else faces.photos:
            of_photo = slice(photo.first, photo.first + len(photo.boxes))
            path = _unused(os.path.join(_photo_folder(output), _file_name(photo.picture.path)), drawn)
            picture = face_detection.annotate(
                face_detection.open_image(photo.picture.read()), photo.boxes, probabilities[of_photo]
            )
            files.write_bytes(stage(path), face_detection.encode(picture, path))
            drawn.append(path)
        if kaggle:
            predictions.write_submission(stage(output), probabilities)
        else:
            predictions.write_csv(stage(output), faces.names, probabilities, boxes if faces.photos else None)
    return [*drawn, output]


def report(faces: input_readers.Faces, output: str) -> None:
    """Prints what was made of the input, once the predictions are written; pictures that cannot be read come last.

    Raises:
      UserError: pictures could not be read, so that they have no prediction.
    """
    for name, what in image_reader.ALTERATIONS.items():
        if faces.altered.get(name):
            print(f"{faces.altered[name]:,} pictures {what}")
    for name in faces.faceless:
        print(f"no face was found in {escaping.escape_line(name)}")
    if faces.passed_over:
        print(f"files passed over, as they are not read: {skipped_files.describe_counts(faces.passed_over)}")
    if faces.unreadable:
        print("\n".join(escaping.escape_line(shorten(text)) for text in faces.unreadable), file=sys.stderr)
        count = f"{len(faces.unreadable):,} picture{'s' * (len(faces.unreadable) > 1)}"
        raise UserError(
            f"{count} could not be read (listed above): repair or remove them; {output} has the other "
            f"{len(faces.names):,} faces."
        )


def sentences(source: str, faces: input_readers.Faces, found: Prediction) -> list[str]:
    """Returns what was recognised, in words: each of a few faces, or how often each class among many.

    Args:
      source: where `faces` were read.
      faces: n of them.
      found: what the networks said of them.
    """
    count, alone = len(faces.names), {photo.first for photo in faces.photos if len(photo.boxes) == 1}
    rate = "" if found.images_per_second is None else f", {found.images_per_second:.0f} images/s"
    if count > FEW:
        chosen = collections.Counter(CLASSES[label] for label in found.probabilities.argmax(axis=1))
        classes = ", ".join(f"{name} {number:,}" for name, number in chosen.most_common())
        return [f"{count:,} faces from {source}{rate}: {classes}"]
    lines = [f"{count} face{'s' * (count != 1)} from {source}{rate}"]
    for position, (name, row) in enumerate(zip(faces.names, found.probabilities)):
        shown = name if faces.pictures else f"row {name}"
        shown = name.rpartition("#")[0] if position in alone else shown
        best = [label for label in row.argsort()[::-1][:2] if row[label] >= 0.005]
        lines.append(f"{shown}: {', '.join(f'{CLASSES[label]} {100 * row[label]:.0f} %' for label in best)}")
    return lines


def _unused(path: str, used: Sequence[str]) -> str:
    """The path, with a number before its ending where an archive holds two pictures of one name."""
    stem, ending = os.path.splitext(path)
    numbered = (f"{stem}-{number}{ending}" for number in itertools.count(2))
    return path if path not in used else next(other for other in numbered if other not in used)


def _photo_folder(output: str) -> str:
    return f"{os.path.splitext(output)[0]}-photos"


def _file_name(path: str) -> str:
    """A photo's own path below the folder, whatever an archive calls it, with an ending where it came without one."""
    path = "/".join(part for part in path.split("/") if part not in ("", ".", ".."))
    return path if path.lower().endswith((".png", ".jpg", ".jpeg")) else f"{path}.jpg"
