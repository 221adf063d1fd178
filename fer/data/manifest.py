"""manifest.json: what a folder of shards holds, and the sums by which it is checked."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping
from typing import Any

from fer import storage
from fer.errors import UserError
from fer.io import files
from fer.labels import CLASSES, SIDE

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 1
IMAGE_FORMAT = {"height": SIDE, "width": SIDE, "channels": 1, "encoding": "raw uint8, row by row"}

CHECKSUM_KEY = "content_sha256"  # SHA-256 of the manifest's text without this key, which is its last

_KEYS = ("name", "classes", "image", "splits", "statistics", "source", "audit", "options", "created_by")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name within the folder, examples, size in bytes and SHA-256 in hexadecimal."""

    file: str
    examples: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: its examples, how many of each class, and its shards in their order."""

    name: str
    examples: int
    class_counts: dict[str, int]
    shards: tuple[Shard, ...]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds. `sha256` is that of the manifest's file; `raw` is all that it says."""

    folder: str
    name: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    statistics: dict[str, float | None]  # mean and std of the train split in [0, 1]; None without one
    sha256: str
    raw: dict[str, Any]
    sealed: tuple[str, ...] = ()  # splits that exist, but may not be opened

    def split(self, name: str) -> Split:
        """The split `name`.

        Raises:
          UserError: there is none, or it may not be opened.
        """
        if name in self.sealed:
            raise UserError(f"Training cannot open the {name} split: only evaluation may.")
        if name not in self.splits:
            raise UserError(f"{self.folder} has no split {name!r}; it has {', '.join(self.splits) or 'none'}.")
        return self.splits[name]

    def seal_test_split(self) -> Manifest:
        """The same, but the split "test" cannot be opened: what training works with."""
        splits = {name: split for name, split in self.splits.items() if name != "test"}
        said = {name: entry for name, entry in self.raw["splits"].items() if name != "test"}
        return dataclasses.replace(self, splits=splits, raw={**self.raw, "splits": said}, sealed=("test",))

    def counts(self) -> str:
        """Returns how much there is in all, as in "35,887 faces in 12 shards"."""
        splits = self.splits.values()
        faces, shards = sum(split.examples for split in splits), sum(len(split.shards) for split in splits)
        return f"{faces:,} faces in {shards} shard{'s' * (shards != 1)}"

    def table(self) -> str:
        """Classes by split, as lines of text."""
        lines = ["".join([f"{'':12}", *(f"{name:>10}" for name in CLASSES), f"{'unlabelled':>12}{'total':>10}"])]
        for split in self.splits.values():
            counts = [split.class_counts[name] for name in CLASSES]
            cells = "".join(f"{count:>10,}" for count in counts)
            lines.append(f"{split.name:12}{cells}{split.examples - sum(counts):>12,}{split.examples:>10,}")
        return "\n".join(lines)


def read_manifest(folder: str) -> Manifest:
    """Reads a folder's manifest.

    Raises:
      UserError: there is none, it is damaged, or it is of another format or order of classes.
    """
    storage.register_filesystems(folder)
    path = os.path.join(folder, MANIFEST_FILE)
    if not files.exists(path):
        raise UserError(
            f"{folder} has no {MANIFEST_FILE}: it is no folder of shards, or a conversion into it never ended."
        )
    raw = files.read_json(path, "the manifest")
    if not isinstance(raw, dict) or "format_version" not in raw:
        raise UserError(f"{path} is no manifest of shards: it has no format_version. Convert the data again.")
    if raw["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{path} is of format {raw['format_version']!r}, and this version reads {FORMAT_VERSION}: convert again."
        )
    missing = [key for key in _KEYS if key not in raw]
    if missing:
        raise UserError(f"{path} is damaged: it has no {missing[0]}. Convert the data again.")
    if raw["classes"] != list(CLASSES):
        raise UserError(
            f"{path} orders the classes as {raw['classes']!r}, and this version as {list(CLASSES)!r}: convert again."
        )
    try:
        found = _parse_manifest(folder, path, raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}). Convert the data again.") from error
    _check_content(found, path)
    return found


def write_manifest(folder: str, content: dict[str, Any]) -> None:
    """Writes the manifest of a folder, with a checksum of its content under `CHECKSUM`, in place of one that it has.

    Raises:
      StorageError: the folder cannot be written to.
    """
    content = {key: value for key, value in content.items() if key != CHECKSUM_KEY}
    files.write_json(os.path.join(folder, MANIFEST_FILE), {**content, CHECKSUM_KEY: _checksum(content)})


def _check_content(manifest: Manifest, path: str) -> None:
    """Checks every byte of the manifest's file against the checksum in it. Manifests of before have none.

    Raises:
      UserError: they differ.
    """
    content = {key: value for key, value in manifest.raw.items() if key != CHECKSUM_KEY}
    if CHECKSUM_KEY not in manifest.raw:
        unknown = sorted(set(content) - {"format_version", *_KEYS})
        if unknown:  # the name of the checksum may be what is damaged
            raise UserError(f"{path} is damaged: it has a key {unknown[0]!r}. Convert the data again.")
        return
    as_written = hashlib.sha256(files.json_text(manifest.raw).encode()).hexdigest()
    if manifest.raw[CHECKSUM_KEY] != _checksum(content) or manifest.sha256 != as_written:
        raise UserError(
            f"{path} was changed since it was written: its content does not have the checksum in it "
            f"({CHECKSUM_KEY}). Copy it again from where it was whole, or convert the data again."
        )


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(files.json_text(content).encode()).hexdigest()


def check_manifest(folder: str) -> None:
    """Reads the manifest of a local folder for its faults, without TensorFlow. One in a store is left to `read`.

    Raises:
      UserError: see `read`.
    """
    if not storage.is_remote(folder):
        read_manifest(folder)


def pixel_statistics(pixels: int, total: int, squares: int) -> dict[str, float | None]:
    """Mean and standard deviation in [0, 1] of so many pixels in 0 to 255, by their sum and the sum of their squares.

    None of both where there are no pixels.
    """
    if not pixels:
        return {"mean": None, "std": None}
    return {"mean": total / pixels / 255, "std": math.sqrt(squares * pixels - total**2) / pixels / 255}


def check_sizes(manifest: Manifest) -> None:
    """Holds every shard of the splits that may be opened against its stated size, without reading it.

    Raises:
      UserError: names the first shard that is missing or of another size.
    """
    for split in manifest.splits.values():
        for shard in split.shards:
            path = os.path.join(manifest.folder, shard.file)
            try:
                size = files.size(path)
            except files.io_errors() as error:
                if files.is_not_found(error):
                    raise UserError(
                        f"{path} is missing, and {MANIFEST_FILE} names it: convert the data again."
                    ) from error
                raise files.read_error(path, error) from error
            if size != shard.bytes:
                raise UserError(
                    f"{path} has {size:,} bytes where {MANIFEST_FILE} states {shard.bytes:,}: it is cut short or not "
                    "of this data. Convert the data again."
                )


def _parse_manifest(folder: str, path: str, raw: Mapping[str, Any]) -> Manifest:
    if raw["image"] != IMAGE_FORMAT:
        raise ValueError(f"image is {raw['image']!r} where {IMAGE_FORMAT!r} is expected")
    return Manifest(
        folder=folder,
        name=str(raw["name"]),
        classes=tuple(raw["classes"]),
        splits={name: _parse_split(name, entry) for name, entry in raw["splits"].items()},
        statistics={key: _check_unit_interval(raw["statistics"][key]) for key in ("mean", "std")},
        sha256=files.sha256(path),
        raw=dict(raw),
    )


def _parse_split(name: str, entry: Mapping[str, Any]) -> Split:
    shards = tuple(
        Shard(str(shard["file"]), _check_count(shard["examples"]), _check_count(shard["bytes"]), str(shard["sha256"]))
        for shard in entry["shards"]
    )
    split = Split(
        name,
        _check_count(entry["examples"]),
        {key: _check_count(entry["class_counts"][key]) for key in CLASSES},
        shards,
    )
    for shard in shards:
        if os.path.basename(shard.file) != shard.file:
            raise ValueError(f"a shard is named {shard.file!r}, with a folder")
    if sum(shard.examples for shard in shards) != split.examples:
        raise ValueError(f"the shards of {name} do not add up to its {split.examples:,} examples")
    return split


def _check_count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no number of things")
    return value


def _check_unit_interval(value: Any) -> float | None:
    if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
        raise ValueError(f"{value!r} is no number from 0 to 1")
    return value
