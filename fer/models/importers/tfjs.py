"""Reader of the weights of TensorFlow.js models; the graph is not read, and no script is executed.

A model is a JSON file, whose weights manifest names the binary files beside it. The npm package nsfwjs distributes
both as JavaScript: model.min.js holds an object, and each group1-shardNofM.min.js a string in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fer.errors import UserError
from fer.io import files

STORED = ("float32", "float16", "uint8", "uint16", "int32")  # of the bytes
_NUMBER = rb"-?[0-9]*\.?[0-9]+(?:e-?[0-9]+)?"
_ENTRY = re.compile(
    rb'\{name:"([^"]+)",shape:\[([0-9,]*)\],dtype:"(\w+)"'
    rb"(?:,quantization:\{min:(" + _NUMBER + rb"),scale:(" + _NUMBER + rb'),dtype:"(\w+)"\})?\}'
)
_PATHS = re.compile(rb"paths:\[([^\]]*)\]")
_STRING = re.compile(rb'\.exports="([A-Za-z0-9+/=]*)"')


def read(path: str) -> dict[str, np.ndarray]:
    """Reads the weights of a model by their names, in the order of the file; integers with a scale become float32.

    Args:
      path: of model.json or model.min.js; the binary files are beside it.

    Raises:
      UserError: a file is missing or damaged.
    """
    content = files.read_bytes(path, f"There is no weights file {path}.")
    try:
        names, entries = _read_script(content) if path.endswith(".js") else _read_manifest(json.loads(content))
        if any(name != os.path.basename(name) for name in names):
            raise ValueError("it names files of other folders")
        return _decode(entries, b"".join(_read_binary(os.path.join(os.path.dirname(path), name)) for name in names))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no TensorFlow.js model, or is damaged ({files.error_message(error)}).") from error


def _read_manifest(content: Any) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Returns the names of the binary files and the entries of the weights."""
    groups = content["weightsManifest"]
    return [name for each in groups for name in each["paths"]], [entry for each in groups for entry in each["weights"]]


def _read_script(content: bytes) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Returns the same from an object in JavaScript, whose keys have no quotation marks."""
    listed = _PATHS.search(content)
    if not listed:
        raise ValueError("it lists no binary files")
    names = [f"{name}.min.js" for name in re.findall(r'"([\w-]+)"', listed[1].decode())]
    entries: list[Mapping[str, Any]] = []
    for name, shape, dtype, low, scale, stored in _ENTRY.findall(content):
        entry = {"name": name.decode(), "shape": [int(size) for size in shape.split(b",") if size]}
        scaling = {"min": float(low), "scale": float(scale), "dtype": stored.decode()} if stored else None
        entries.append({**entry, "dtype": dtype.decode(), "quantization": scaling})
    return names, entries


def _read_binary(path: str) -> bytes:
    content = files.read_bytes(path, f"There is no {path}, which the model needs.")
    if not path.endswith(".js"):
        return content
    found = _STRING.search(content)
    if not found:
        raise UserError(f"{path} is damaged: it holds no string in base64.")
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error as error:
        raise UserError(f"{path} is damaged: its string is not base64 ({error}).") from error


def _decode(entries: Iterable[Mapping[str, Any]], content: bytes) -> dict[str, np.ndarray]:
    found, start = {}, 0
    for entry in entries:
        scaling = entry.get("quantization") or {}
        stored = scaling.get("dtype", entry["dtype"])
        if stored not in STORED:
            raise ValueError(f"{entry['name']} has the unknown dtype {stored}")
        values = np.frombuffer(content, np.dtype(stored).newbyteorder("<"), math.prod(entry["shape"]), start)
        start += values.nbytes
        if "scale" in scaling:
            values = values * float(scaling["scale"]) + float(scaling["min"])  # float64, as TensorFlow.js computes
        kind = "int32" if entry["dtype"] == "int32" else "float32"
        found[entry["name"]] = values.astype(kind).reshape(entry["shape"])
    if start != len(content):
        raise ValueError(f"its weights need {start:,} bytes and its binary files have {len(content):,}")
    return found
