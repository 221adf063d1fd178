"""export.json, the manifest of a folder of exports: validation, reading, writing, and lookup of an export by path."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from fer.errors import UserError
from fer.io import files

if TYPE_CHECKING:
    import jsonschema

FILE = "export.json"
SCHEMA_VERSION = 1


class ExportEntry(NamedTuple):
    """One export of a folder, with its manifest."""

    content: dict[str, Any]  # of export.json; export.schema.json describes its fields
    entry: dict[str, Any]  # of content["exports"]
    path: str  # of the export's file, or a SavedModel's folder


def write(path: str, content: dict[str, Any]) -> None:
    """Validates the content of export.json and writes it to a path.

    Raises:
      jsonschema.ValidationError: the content does not match the schema (a fault of the program).
      UserError: the file cannot be written.
    """
    _validator().validate(content)
    files.write_json(path, content)


def read(folder: str) -> dict[str, Any]:
    """Reads a folder's export.json.

    Raises:
      UserError: it is missing or damaged, or does not match this version's schema.
    """
    path = os.path.join(folder, FILE)
    import jsonschema

    content = files.read_json(path, "the record of the exports")
    fault = jsonschema.exceptions.best_match(_validator().iter_errors(content))
    if fault is not None:
        raise UserError(f"{path} is no export.json of this version: {fault.json_path}: {fault.message}.")
    return content


def find(workdir: str) -> ExportEntry | None:
    """Finds the export that a path names: by its file, or the first of a folder, which is the most exact.

    Returns:
      The export, or None if the path names none.

    Raises:
      UserError: export.json is damaged, or does not list the file.
    """
    workdir = workdir.rstrip("/")
    if files.exists(os.path.join(workdir, FILE)):
        content = read(workdir)
        entry = content["exports"][0]
        return ExportEntry(content, entry, files.join_inside(workdir, entry["file"], os.path.join(workdir, FILE)))
    folder, name = os.path.split(workdir)
    if not name or not files.exists(os.path.join(folder, FILE)):
        return None
    content = read(folder)
    listed = {entry["file"]: entry for entry in content["exports"]}
    if name not in listed:
        raise UserError(f"{workdir} is not an export of {os.path.join(folder, FILE)}, which lists {', '.join(listed)}.")
    return ExportEntry(content, listed[name], workdir)


def size_and_sha256(path: str) -> tuple[int, str]:
    """Returns the size in bytes of a file, or of all files of a folder, and the hash that the schema describes.

    Raises:
      UserError: the path is missing or cannot be read.
    """
    try:
        if not files.isdir(path):
            return files.size(path), files.sha256(path)
        lines, size = [], 0
        for file in files.list_files(path):
            size += files.size(os.path.join(path, file))
            lines.append(f"{files.sha256(os.path.join(path, file))}  {file}\n")
    except files.io_errors() as error:
        if files.is_not_found(error):
            raise UserError(f"There is no {path}, which {FILE} lists: copy it back or export again.") from error
        raise UserError(f"Cannot read {path}: {files.error_message(error)}.") from error
    return size, hashlib.sha256("".join(lines).encode()).hexdigest()


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    import jsonschema

    text = importlib.resources.files("fer.models").joinpath("export.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))
