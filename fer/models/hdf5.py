"""HDF5 files of weights, looked through before anything in them is read."""

from __future__ import annotations

import math
import os

import h5py

from fer import unpacking

_DEEPEST = 50  # groups within groups


def check(path: str) -> None:
    """Refuses a file whose arrays are larger than its bytes, or lie in other files.

    Args:
      path: of a local file.

    Raises:
      unpacking.LimitError: the arrays together are far larger than the file.
      ValueError: an array has fewer bytes than its shape, or the file leads to other files or to itself.
      OSError, RuntimeError, KeyError, ...: HDF5 cannot read it.
    """
    budget = unpacking.Budget(os.path.getsize(path))
    with h5py.File(path, "r") as file:
        _check_group(file, budget, 0, set())


def _check_group(group: h5py.Group, budget: unpacking.Budget, depth: int, seen: set[int]) -> None:
    address = h5py.h5o.get_info(group.id).addr
    if depth > _DEEPEST or address in seen:
        raise ValueError(f"{group.name} leads to itself or too deep")
    seen.add(address)
    _check_attributes(group, budget)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name}/{name} is a link to another place")
        item = group[name]
        if isinstance(item, h5py.Group):
            _check_group(item, budget, depth + 1, seen)
        elif isinstance(item, h5py.Dataset):
            _check_attributes(item, budget)
            _check_array(item, budget)


def _check_array(array: h5py.Dataset, budget: unpacking.Budget) -> None:
    size = math.prod(array.shape) * array.dtype.itemsize if array.shape is not None else 0
    budget.take(size)
    if array.external or array.is_virtual:
        raise ValueError(f"{array.name} lies in another file")
    stored = array.id.get_storage_size()
    if array.chunks is None and stored < size:
        raise ValueError(f"{array.name} states {list(array.shape)} of {array.dtype}, and has {stored:,} bytes of them")


def _check_attributes(item: h5py.Group | h5py.Dataset, budget: unpacking.Budget) -> None:
    for name in item.attrs:
        attribute = h5py.h5a.open(item.id, name.encode())
        budget.take(math.prod(attribute.shape) * attribute.dtype.itemsize)
