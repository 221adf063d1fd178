"""Checks of HDF5 files of weights in a separate process, before they are used.

Damaged or malicious files can make the HDF5 library crash or loop forever, which raises no exception.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys

import h5py

import fer
from fer.io import decompression_limits, files, npz

TIMEOUT_S = 30.0  # limit of the process, plus a second for each `_BYTES_PER_S`
_BYTES_PER_S = 10_000_000
_MAX_DEPTH = 50  # groups within groups
_DAMAGED_EXIT_CODE = 3  # the reason is then on the standard output


def check(path: str) -> None:
    """Reads a whole file in a separate process.

    Args:
      path: of a local file.

    Raises:
      ValueError: HDF5 cannot read the file, does not end or crashes; or `inspect` rejects it.
    """
    root = os.path.dirname(os.path.dirname(fer.__file__))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
    timeout = TIMEOUT_S + os.path.getsize(path) / _BYTES_PER_S
    command = [sys.executable, "-m", __name__, os.path.abspath(path)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"HDF5 has not read it in {timeout:.0f} s: it is damaged") from error
    if done.returncode == _DAMAGED_EXIT_CODE:
        raise ValueError(done.stdout.decode("utf-8", "replace").strip())
    if done.returncode != 0:
        raise ValueError(f"HDF5 ends with code {done.returncode} when it reads it: it is damaged")


def inspect(path: str) -> None:
    """Reads a whole file in this process. Rejects arrays that are larger than their bytes or are in other files.

    Args:
      path: of a local file.

    Raises:
      decompression_limits.LimitError: the arrays together are far larger than the file.
      ValueError: an array has fewer bytes than its shape needs or has values of variable length, or the file links to
        other files or to itself.
      OSError, RuntimeError, KeyError, ...: HDF5 cannot read it.
    """
    budget = decompression_limits.Budget(os.path.getsize(path))
    with h5py.File(path, "r") as file:
        _check_group(file, budget, 0, set())


def _check_group(group: h5py.Group, budget: decompression_limits.Budget, depth: int, addresses: set[int]) -> None:
    address = h5py.h5o.get_info(group.id).addr
    if depth > _MAX_DEPTH or address in addresses:
        raise ValueError(f"{group.name} leads to itself or too deep")
    addresses.add(address)
    _check_attributes(group, budget)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name}/{name} is a link to another place")
        item = group[name]
        if isinstance(item, h5py.Group):
            _check_group(item, budget, depth + 1, addresses)
        elif isinstance(item, h5py.Dataset):
            _check_attributes(item, budget)
            _check_array(item, budget)


def _check_array(array: h5py.Dataset, budget: decompression_limits.Budget) -> None:
    size = math.prod(array.shape) * array.dtype.itemsize if array.shape is not None else 0
    budget.take(size)
    if array.external or array.is_virtual:
        raise ValueError(f"{array.name} lies in another file")
    if array.dtype.hasobject:
        raise ValueError(f"{array.name} holds {array.dtype} values, which no weights are")
    stored = array.id.get_storage_size()
    if array.chunks is None and stored < size:
        raise ValueError(f"{array.name} states {list(array.shape)} of {array.dtype}, and has {stored:,} bytes of them")
    if size:
        array[()]


def _check_attributes(item: h5py.Group | h5py.Dataset, budget: decompression_limits.Budget) -> None:
    for name in item.attrs:
        attribute = h5py.h5a.open(item.id, name.encode())
        budget.take(math.prod(attribute.shape) * attribute.dtype.itemsize)
        item.attrs[name]


if __name__ == "__main__":
    try:
        inspect(sys.argv[1])
    except npz.DAMAGE_ERRORS as damage:
        print(files.error_message(damage))
        sys.exit(_DAMAGED_EXIT_CODE)
