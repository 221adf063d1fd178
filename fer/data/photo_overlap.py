"""photo_overlap.json: faces of other splits whose photograph is also in the train split, cropped or edited otherwise.

`scripts/photo_overlap.py` writes the file beside the manifest; evaluations read it.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fer.data.manifest import PHOTO_OVERLAP_FILE, Manifest
from fer.errors import UserError, command_name
from fer.io import files

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class PhotoOverlap:
    """The faces of one split that share their photograph with a train face, and the most similar train face of each."""

    rows: np.ndarray  # int64 [k], row numbers in the source, ascending
    train_rows: np.ndarray  # int64 [k], of the train faces
    train_labels: np.ndarray  # int32 [k], their labels
    correlations: np.ndarray  # float32 [k], of the aligned pixels, at most 1
    examples: int  # of the split


_MAX_ROW = 2**63 - 1
_DTYPES = {"rows": np.int64, "train_rows": np.int64, "train_labels": np.int32, "correlations": np.float32}


def write(manifest: Manifest, overlaps: Mapping[str, PhotoOverlap], details: Mapping[str, Any]) -> str:
    """Writes photo_overlap.json into the folder of the manifest, and returns its path.

    Args:
      manifest: of the compared data.
      overlaps: by the name of the split.
      details: of the method, for readers; not read by this module.

    Raises:
      UserError: the file cannot be written.
    """
    path = os.path.join(manifest.folder, PHOTO_OVERLAP_FILE)
    columns = {
        name: {
            "examples": overlap.examples,
            **{field: getattr(overlap, field).tolist() for field in _DTYPES if field != "correlations"},
            "correlations": [round(float(value), 4) for value in overlap.correlations],
        }
        for name, overlap in overlaps.items()
    }
    head = {"format_version": FORMAT_VERSION, "manifest_sha256": manifest.sha256, **details}
    files.write_json(path, {**head, "splits": columns})
    return path


def read(manifest: Manifest) -> dict[str, PhotoOverlap] | None:
    """Reads photo_overlap.json from the folder of the manifest; returns None if there is none.

    Raises:
      UserError: the file is damaged, or was computed from another conversion.
    """
    path = os.path.join(manifest.folder, PHOTO_OVERLAP_FILE)
    if not files.exists(path):
        return None
    content = files.read_json(path, f"the photo overlap that {command_name('photo_overlap')} writes")
    again = f"Run {command_name('photo_overlap')} again."
    try:
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version is {content['format_version']}, not {FORMAT_VERSION}")
        if content["manifest_sha256"] != manifest.sha256:
            raise UserError(f"{path} was computed from another conversion than {manifest.folder}. {again}")
        return {name: _parse_columns(name, columns, manifest) for name, columns in content["splits"].items()}
    except KeyError as error:
        raise UserError(f"{path} is damaged: it has no {error}. {again}") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UserError(f"{path} is damaged or of another version ({files.error_message(error)}). {again}") from error


def _parse_columns(name: str, columns: Mapping[str, Any], manifest: Manifest) -> PhotoOverlap:
    """Parses the columns of the split `name`.

    Raises:
      KeyError, TypeError or ValueError: a column is missing, or its values are not those of a column.
    """
    if name not in manifest.splits:
        raise ValueError(f"the data have no split {name!r}")
    if columns["examples"] != manifest.splits[name].examples:
        raise ValueError(f"examples of {name} is {columns['examples']}, not {manifest.splits[name].examples}")
    rows, train_rows, labels, correlations = (columns[field] for field in _DTYPES)
    for field, largest in (("rows", _MAX_ROW), ("train_rows", _MAX_ROW), ("train_labels", len(manifest.classes) - 1)):
        for value in columns[field]:
            if type(value) is not int or not 0 <= value <= largest:
                raise ValueError(f"{field} of {name} has {value!r}, which is no whole number of 0 to {largest}")
    if not all(isinstance(value, (int, float)) and -1 <= value <= 1.001 for value in correlations):
        raise ValueError(f"correlations of {name} has a value outside of -1 to 1")
    if not len(rows) == len(train_rows) == len(labels) == len(correlations):
        raise ValueError(f"the columns of {name} have different lengths")
    if any(second <= first for first, second in itertools.pairwise(rows)):
        raise ValueError(f"rows of {name} do not ascend")
    arrays = {field: np.array(columns[field], dtype) for field, dtype in _DTYPES.items()}
    return PhotoOverlap(**arrays, examples=columns["examples"])
