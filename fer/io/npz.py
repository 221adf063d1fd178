"""Reader of untrusted .npz files: nothing is unpickled, and no array is allocated before its bytes are read."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from typing import Literal

import numpy as np

from fer.errors import UserError
from fer.io import decompression_limits, files

# Exceptions of the readers of zip, NumPy's format and HDF5 for damaged content.
DAMAGE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,  # OverflowError, for absurd shapes
    RuntimeError,  # NotImplementedError and RecursionError among them
    MemoryError,
    SyntaxError,
    AssertionError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    decompression_limits.LimitError,
)

_MAX_HEADER_BYTES = 10_000  # NumPy's own limit
_HEADERS = {
    (1, 0): (2, np.lib.format.read_array_header_1_0),  # size of the header's length in bytes, and its reader
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}
_DTYPES = [np.dtype(code) for code in "?bhilqBHILQefd"]  # booleans, integers, floating-point numbers of 16 to 64 bits


def read(path: str, kind: str, absent: str) -> dict[str, np.ndarray]:
    """Reads the arrays of a file by their keys, in the file's order.

    Args:
      path: of the .npz.
      kind: name of the file in messages, such as "file of predictions".
      absent: message if the file is missing.

    Returns:
      Arrays of booleans, integers or floating-point numbers, in the machine's byte order.

    Raises:
      StorageError: the file cannot be read now.
      UserError: the file is missing or damaged, or holds other arrays.
    """
    content = files.read_bytes(path, absent)
    try:
        return _read_arrays(content)
    except DAMAGE_ERRORS as error:
        raise UserError(f"{path} is no readable {kind}: {files.error_message(error)}.") from error


def _read_arrays(content: bytes) -> dict[str, np.ndarray]:
    budget = decompression_limits.Budget(len(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            budget.take(entry.file_size)
        return {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in archive.infolist()}


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    content = archive.read(entry)
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{entry.filename} is of version {version} of NumPy's format")
    size, read_header = _HEADERS[version]
    start = stream.tell()
    length = int.from_bytes(content[start : start + size], "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"{entry.filename} has a header of {length:,} bytes")
    shape, fortran, dtype = read_header(stream)
    native = dtype.newbyteorder("=")
    if native not in _DTYPES:
        raise ValueError(f"{entry.filename} is no array of numbers")
    start = stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content) - start:
        stated = " x ".join(map(str, shape)) or "one value"
        raise ValueError(
            f"{entry.filename} states {stated} of {native.name}, and has {len(content) - start:,} bytes of them"
        )
    order: Literal["C", "F"] = "F" if fortran else "C"
    return np.ndarray(shape, dtype, content, start, order=order).astype(native, order="C", copy=True)
