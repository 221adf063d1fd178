"""One prediction, from faces in any form to a CSV and to photos with what was recognised in them."""

from __future__ import annotations

import os

import numpy as np

from fer import files
from fer.errors import UserError
from fer.evaluation import inputs, photos, predictions


def write(output: str, faces: inputs.Faces, probabilities: np.ndarray, kaggle: bool) -> list[str]:
    """Writes a copy of each photo with its faces named, and the CSV last. Returns the paths.

    Args:
      output: of the CSV; the photos go into the folder <output without its ending>-photos, under their own names.
      faces: n of them.
      probabilities: [n, 7] float32.
      kaggle: writes the challenge's submission form instead, which is for tables.

    Raises:
      UserError: a file cannot be written, or pictures are to be a submission.
    """
    if kaggle and faces.photos:
        raise UserError("--kaggle writes labels in the order of a table's rows; photos have none: leave it out.")
    drawn = []
    boxes: list[tuple[int, ...]] = [()] * len(faces.names)
    for photo in faces.photos:
        of_photo = slice(photo.first, photo.first + len(photo.boxes))
        boxes[of_photo] = photo.boxes
        path = os.path.join(f"{os.path.splitext(output)[0]}-photos", _file_name(photo.picture.path))
        picture = photos.drawn(photos.opened(photo.picture), photo.boxes, probabilities[of_photo])
        files.write_bytes(path, photos.encoded(picture, path))
        drawn.append(path)
    if kaggle:
        predictions.write_submission(output, probabilities)
    else:
        predictions.write_csv(output, faces.names, probabilities, boxes if faces.photos else None)
    return [*drawn, output]


def _file_name(path: str) -> str:
    """A photo's own path below the folder, whatever an archive calls it, with an ending where it came without one."""
    path = "/".join(part for part in path.split("/") if part not in ("", ".", ".."))
    return path if path.lower().endswith((".png", ".jpg", ".jpeg")) else f"{path}.jpg"
