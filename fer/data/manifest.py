"""manifest.json: the contents of a folder of shards, and the checksums that verify it."""

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
from fer.labels import SIDE, check_classes, fit_in_row

MANIFEST_FILE = "manifest.json"
PHOTO_OVERLAP_FILE = "photo_overlap.json"  # beside it, see `fer.data.photo_overlap`
FORMAT_VERSION = 1
IMAGE_FORMAT = {"height": SIDE, "width": SIDE, "channels": 1, "encoding": "raw uint8, row by row"}

CHECKSUM_KEY = "content_sha256"  # SHA-256 of the manifest's text without this key, its last one

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
    """One split: its examples, the number of each class, and its shards in their order.

    `train_duplicates` holds the rows whose image is identical to one of the train split; None for the train split,
    without a train split, and in manifests of earlier versions.
    """

    name: str
    examples: int
    class_counts: dict[str, int]
    shards: tuple[Shard, ...]
    train_duplicates: tuple[int, ...] | None = None

    @property
    def unlabelled(self) -> int:
        """Number of examples without a label."""
        return self.examples - sum(self.class_counts.values())


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of a folder of shards. `sha256` is the SHA-256 of the manifest's file, `raw` its whole content."""

    folder: str
    name: str
    classes: tuple[str, ...]  # names in label order, see `fer.labels.check_classes`
    splits: dict[str, Split]
    statistics: dict[str, float | None]  # mean and std of the train split in [0, 1]; None without one
    sha256: str
    raw: dict[str, Any]
    sealed: tuple[str, ...] = ()  # splits that exist but must not be opened

    def split(self, name: str) -> Split:
        """Returns the split of that name.

        Raises:
          UserError: there is no such split, or it must not be opened.
        """
        if name in self.sealed:
            raise UserError(f"Training cannot open the {name} split: only evaluation may.")
        if name not in self.splits:
            raise UserError(f"{self.folder} has no split {name!r}; it has {', '.join(self.splits) or 'none'}.")
        return self.splits[name]

    def seal_test_split(self) -> Manifest:
        """Returns the manifest without access to the split "test", for training."""
        splits = {name: split for name, split in self.splits.items() if name != "test"}
        raw_splits = {name: entry for name, entry in self.raw["splits"].items() if name != "test"}
        return dataclasses.replace(self, splits=splits, raw={**self.raw, "splits": raw_splits}, sealed=("test",))

    def record(self) -> dict[str, Any]:
        """Returns the fields by which config.json and eval.json identify the data."""
        examples = {name: split.examples for name, split in self.splits.items()}
        return {"name": self.name, "manifest_sha256": self.sha256, "examples_per_split": examples}

    def counts(self) -> str:
        """Returns the total size in words, as in "35,887 faces in 12 shards"."""
        splits = self.splits.values()
        faces, shards = sum(split.examples for split in splits), sum(len(split.shards) for split in splits)
        return f"{faces:,} faces in {shards} shard{'s' * (shards != 1)}"

    def table(self) -> str:
        """Returns a table of class counts by split, as lines of text."""
        if not fit_in_row(self.classes):
            return self._tall_table()
        widths = [max(10, len(name) + 2) for name in self.classes]
        head = "".join(f"{name:>{width}}" for name, width in zip(self.classes, widths))
        lines = [f"{'':12}{head}{'unlabelled':>12}{'total':>10}"]
        for split in self.splits.values():
            cells = "".join(f"{count:>{width},}" for count, width in zip(split.class_counts.values(), widths))
            lines.append(f"{split.name:12}{cells}{split.unlabelled:>12,}{split.examples:>10,}")
        return "\n".join(lines)

    def _tall_table(self) -> str:
        """Returns the table with a line for each class and a column for each split."""
        splits = list(self.splits.values())
        width = max(12, *(len(name) + 2 for name in self.classes))
        lines = [" " * width + "".join(f"{split.name:>12}" for split in splits)]
        for name in self.classes:
            lines.append(f"{name:{width}}" + "".join(f"{split.class_counts[name]:>12,}" for split in splits))
        lines.append(f"{'unlabelled':{width}}" + "".join(f"{split.unlabelled:>12,}" for split in splits))
        lines.append(f"{'total':{width}}" + "".join(f"{split.examples:>12,}" for split in splits))
        return "\n".join(lines)


def read_manifest(folder: str) -> Manifest:
    """Reads the manifest of a folder.

    Raises:
      UserError: the folder has none; or the manifest is damaged, has another format, or wrong names of classes.
    """
    storage.check_slashes(folder)
    path = os.path.join(folder, MANIFEST_FILE)
    if not files.exists(path):
        raise UserError(
            f"{folder} has no {MANIFEST_FILE}: it is not a folder of shards, or its conversion was not completed."
        )
    raw = files.read_json(path, "the manifest")
    if not isinstance(raw, dict) or "format_version" not in raw:
        raise UserError(f"{path} is not a manifest of shards: it has no format_version. Convert the data again.")
    if raw["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{path} has format_version {raw['format_version']!r}, and this version reads {FORMAT_VERSION}: convert "
            "the data again."
        )
    missing = [key for key in _KEYS if key not in raw]
    if missing:
        raise UserError(f"{path} is damaged: it has no {missing[0]}. Convert the data again.")
    try:
        manifest = _parse_manifest(folder, path, raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}). Convert the data again.") from error
    _check_content(manifest, path)
    return manifest


def write_manifest(folder: str, content: dict[str, Any]) -> None:
    """Writes the manifest of a folder, replacing an existing one, with a checksum of its content under `CHECKSUM_KEY`.

    Raises:
      StorageError: the folder cannot be written to.
    """
    content = {key: value for key, value in content.items() if key != CHECKSUM_KEY}
    files.write_json(os.path.join(folder, MANIFEST_FILE), {**content, CHECKSUM_KEY: _checksum(content)})


def _check_content(manifest: Manifest, path: str) -> None:
    """Checks every byte of the manifest's file against its checksum. Manifests of earlier versions have none.

    Raises:
      UserError: the checksum differs.
    """
    content = {key: value for key, value in manifest.raw.items() if key != CHECKSUM_KEY}
    if CHECKSUM_KEY not in manifest.raw:
        unknown = sorted(set(content) - {"format_version", *_KEYS})
        if unknown:  # the key of the checksum may be the damaged part
            raise UserError(f"{path} is damaged: it has a key {unknown[0]!r}. Convert the data again.")
        return
    as_written = hashlib.sha256(files.json_text(manifest.raw).encode()).hexdigest()
    if manifest.raw[CHECKSUM_KEY] != _checksum(content) or manifest.sha256 != as_written:
        raise UserError(
            f"{path} was changed since it was written: its content does not match its checksum "
            f"({CHECKSUM_KEY}). Copy it again from where it was whole, or convert the data again."
        )


def _checksum(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of the manifest's text for `content`."""
    return hashlib.sha256(files.json_text(content).encode()).hexdigest()


def check_manifest(folder: str) -> None:
    """Checks the manifest of a local folder without TensorFlow. One in an object store is checked when it is read.

    Raises:
      UserError: see `read_manifest`.
    """
    if not storage.is_remote(folder):
        read_manifest(folder)


def pixel_statistics(pixels: int, total: int, squares: int) -> dict[str, float | None]:
    """Returns mean and standard deviation in [0, 1] of pixels.

    Args:
      pixels: number of pixels; without any, mean and standard deviation are None.
      total: sum of the pixels, each 0 to 255.
      squares: sum of their squares.
    """
    if not pixels:
        return {"mean": None, "std": None}
    return {"mean": total / pixels / 255, "std": math.sqrt(squares * pixels - total**2) / pixels / 255}


def missing_shard_message(path: str) -> str:
    """Returns the message for a shard that is missing."""
    return f"{path} is missing, and {MANIFEST_FILE} names it: convert the data again."


def check_sizes(manifest: Manifest) -> None:
    """Checks the size of every shard of the splits that may be opened, without reading the shards.

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
                    raise UserError(missing_shard_message(path)) from error
                raise files.read_error(path, error) from error
            if size != shard.bytes:
                raise UserError(
                    f"{path} has {size:,} bytes where {MANIFEST_FILE} states {shard.bytes:,}: it is truncated or not "
                    "of this data. Convert the data again."
                )


def _parse_manifest(folder: str, path: str, raw: Mapping[str, Any]) -> Manifest:
    """Returns the manifest of parsed JSON.

    Raises:
      KeyError, TypeError, ValueError, AttributeError: a key or value is missing or wrong.
    """
    if raw["image"] != IMAGE_FORMAT:
        raise ValueError(f"image is {raw['image']!r} where {IMAGE_FORMAT!r} is expected")
    if not isinstance(raw["classes"], list):
        raise ValueError("classes is not a list of names")
    classes = check_classes(raw["classes"])
    return Manifest(
        folder=folder,
        name=str(raw["name"]),
        classes=classes,
        splits={name: _parse_split(name, entry, classes) for name, entry in raw["splits"].items()},
        statistics={key: _check_unit_interval(raw["statistics"][key]) for key in ("mean", "std")},
        sha256=files.sha256(path),
        raw=dict(raw),
    )


def _parse_split(name: str, entry: Mapping[str, Any], classes: tuple[str, ...]) -> Split:
    """Returns a split of parsed JSON.

    Raises:
      KeyError, TypeError, ValueError: a key or value is missing or wrong.
    """
    shards = tuple(
        Shard(str(shard["file"]), _check_count(shard["examples"]), _check_count(shard["bytes"]), str(shard["sha256"]))
        for shard in entry["shards"]
    )
    if list(entry["class_counts"]) != list(classes):
        raise ValueError(f"the class_counts of {name} do not name its classes in their order")
    duplicates = entry.get("train_duplicates")
    split = Split(
        name,
        _check_count(entry["examples"]),
        {key: _check_count(entry["class_counts"][key]) for key in classes},
        shards,
        None if duplicates is None else tuple(map(_check_count, duplicates)),
    )
    for shard in shards:
        if os.path.basename(shard.file) != shard.file:
            raise ValueError(f"the name of a shard, {shard.file!r}, contains a folder")
    if sum(shard.examples for shard in shards) != split.examples:
        raise ValueError(f"the shards of {name} do not add up to its {split.examples:,} examples")
    return split


def _check_count(value: Any) -> int:
    """Returns a value that is a whole number of 0 or more.

    Raises:
      ValueError: the value is not.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a whole number of 0 or more")
    return value


def _check_unit_interval(value: Any) -> float | None:
    """Returns a value that is None or a number from 0 to 1.

    Raises:
      ValueError: the value is not.
    """
    if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
        raise ValueError(f"{value!r} is not a number from 0 to 1")
    return value
