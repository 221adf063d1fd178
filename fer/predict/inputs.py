"""Inputs of a prediction, expanded and checked without TensorFlow."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence

from fer import storage
from fer.errors import UserError
from fer.io import files, local_write
from fer.predict import output_mark
from fer.predict.video_request import CAMERA, is_video

STANDARD_INPUT = "-"


def expand(inputs: Sequence[str]) -> list[str]:
    """Replaces patterns by the paths that match them.

    Args:
      inputs: paths of files and folders, local or in a store; patterns of local paths, such as "photos/*.jpg", whose
        "**" matches the files of folders of any depth; "-" for the standard input; or "camera:N".

    Returns:
      The paths, those of a pattern by name. A path that does not exist is returned if another one exists.

    Raises:
      UserError: no input exists, or the only one is a pipe or a device.
    """
    paths: list[str] = []
    for path in inputs:
        pattern = path != STANDARD_INPUT and glob.has_magic(path) and not storage.is_remote(path)
        matches = sorted(glob.glob(path, recursive=True)) if pattern and not files.exists(path) else []
        if "**" in path:  # it matches the files of each folder too
            matches = [match for match in matches if not os.path.isdir(match)]
        paths += matches or [path]
    if not any(_is_stream(path) or files.exists(path) for path in paths):
        raise UserError(
            f"There is no {paths[0]}. --input takes a table of pixels, an image, a folder or archive of images, or a "
            "video."
        )
    if len(paths) == 1 and not _is_stream(paths[0]):
        files.check_regular(paths[0])
    return paths


def check_output(output: str | None, paths: Sequence[str], json: bool, kaggle: bool, faces: str) -> None:
    """Checks the flags of the output, and that it can be written and replaces no file of the inputs or of the user.

    Args:
      output: path of a CSV file, if any.
      paths: of the inputs.
      json: whether JSON is printed.
      kaggle: whether a submission to the challenge is written.
      faces: of `fer.config.FACES`.

    Raises:
      UserError: the flags exclude each other, or the file cannot be written or would replace a file of the input; or
        annotated photos would be written among pictures that no earlier prediction wrote.
    """
    if output is None:
        if kaggle:
            raise UserError("--kaggle writes a file: name it with --output.")
        return
    if json and output.endswith(".json"):
        raise UserError(f"--output={output} would be a CSV file, and --json prints: use --json > {output}.")
    if json and local_write.is_standard_output(output):
        raise UserError("--json and --output=- both print to the standard output: omit one of them.")
    written = os.path.realpath(output)
    for path in map(os.path.realpath, paths):
        is_inside = f"{written}/".startswith(f"{path}/") and os.path.exists(written)
        if written == path or (is_inside and not _is_result(written)):
            raise UserError(f"--output={output} would replace a file of --input. Name another.")
    files.check_writable(output)
    if faces == "find" and not (kaggle or local_write.is_special(output) or any(map(is_video, paths))):
        folder = photo_folder(output)  # with "auto", an input may hold no photo to annotate: `ResultFiles` checks then
        files.check_writable(os.path.join(folder, "photo.jpg"))
        output_mark.check_folder(output, folder)


def check_face_flags(paths: Sequence[str], faces: str, fit: str, boxes: str | None) -> None:
    """Checks that the inputs use the flags of the faces in pictures.

    Args:
      paths: of the inputs.
      faces: of `fer.config.FACES`.
      fit: of `fer.config.FITS`.
      boxes: path of a file of boxes, if any.

    Raises:
      UserError: no input would use one of them.
    """
    if fit != "stretch" and boxes is not None:
        raise UserError(f"--fit={fit} is for whole images, and --boxes names faces in them: omit one of them.")
    if fit != "stretch" and faces != "whole":
        raise UserError(f"--fit={fit} is for whole images: add --faces=whole or omit --fit.")
    if faces != "auto" and all(map(_is_table, paths)):
        given = "--faces and --fit are" if fit != "stretch" else "--faces is"
        raise UserError(f"{given} for pictures, and {paths[0]} is a table: omit {given.rpartition(' ')[0]}.")


def photo_folder(output: str) -> str:
    """Returns the folder of the annotated photos, beside the CSV file."""
    return f"{os.path.splitext(output)[0]}-photos"


def _is_result(path: str) -> bool:
    """Returns whether a file is a CSV file that a prediction wrote; readers of folders skip such files."""
    from fer.evaluation import prediction_files  # here because it needs NumPy

    if not os.path.isfile(path):
        return False
    try:
        with files.open_file(path) as file:
            return prediction_files.is_result(file.read(prediction_files.HEADER_BYTES))
    except files.io_errors() as error:
        raise files.read_error(path, error) from error


def _is_table(path: str) -> bool:
    """Returns whether a path is a table, compressed or not. Of objects in a store, the name decides."""
    if storage.is_remote(path):
        return bool(re.search(r"\.csv(\.\w+)?$", path.lower()))
    if _is_stream(path) or not os.path.isfile(path):
        return False
    from fer.convert.readers import archives, csv_reader  # here because they need NumPy
    from fer.convert.readers.hashing_reader import HashingReader

    try:
        member = next(archives.iter_members(path, HashingReader()), None)
        return member is not None and not member.path and csv_reader.is_table(member.head())
    except UserError:  # the prediction reports it
        return False


def _is_stream(path: str) -> bool:
    return path == STANDARD_INPUT or bool(CAMERA.fullmatch(path))
