"""The options of a conversion, and the checks that need none of the data."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from fer import flag_paths, storage
from fer.config import DROPPABLE, FITS, ON_BAD_ROW
from fer.convert import atomic_dir
from fer.convert.readers import label_map
from fer.convert.readers.label_map import LabelMap
from fer.errors import UserError
from fer.io import files
from fer.labels import CLASS_SETS, CLASSES

DEFAULT_SYNTHETIC_ROWS = 4000
MAX_SYNTHETIC_ROWS = 10_000_000
MOST_SHARDS = 99_999  # of a split: the names of shards have five digits
MOST_WORKERS = 256


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a conversion. The names are those of the flags of scripts/convert.py."""

    input: str  # paths, comma-separated, or synthetic[:ROWS]
    output: str
    ferplus: str = ""  # path of fer2013new.csv
    on_bad_row: str = "fail"
    classes: str = ""  # names of the classes: see label_map.parse_classes
    label_map: str = ""  # classes of numbers and other names: see label_map.parse_label_map
    fit: str = "stretch"  # of fer.config.FITS: how pictures that are not square are made square
    drop: tuple[str, ...] = ()  # of fer.config.DROPPABLE
    preview: bool = False
    shards: int = 0  # per split; 0 chooses by size
    workers: int = 0  # 0 uses all processors; affects only the time
    seed: int = 0  # for synthetic faces, for splits that the source lacks, and for the preview
    overwrite: bool = False

    def validate(self) -> None:
        """Raises UserError if a value is invalid."""
        unknown = [reason for reason in self.drop if reason not in DROPPABLE]
        if unknown:
            raise UserError(f"--drop={unknown[0]} is not valid; it takes {', '.join(DROPPABLE)}.")
        if "not_a_face" in self.drop and not self.ferplus:
            raise UserError("--drop=not_a_face needs the votes of FER+: give them with --ferplus=fer2013new.csv.")
        if self.on_bad_row not in ON_BAD_ROW:
            raise UserError(f"--on_bad_row={self.on_bad_row} is not valid; it takes {' or '.join(ON_BAD_ROW)}.")
        if self.fit not in FITS:
            raise UserError(f"--fit={self.fit} is not valid; it takes {', '.join(FITS)}.")
        for name, number, most in (("shards", self.shards, MOST_SHARDS), ("workers", self.workers, MOST_WORKERS)):
            if not 0 <= number <= most:
                raise UserError(f"--{name} is {number}; it must be 0 to {most:,}.")
        for name, value in (("label_map", self.label_map), ("classes", self.classes)):
            if value and self.synthetic_rows() is not None:
                raise UserError(
                    f"--{name} is not for synthetic faces, whose labels are in FER-2013's order: leave it out."
                )
        classes = label_map.parse_classes(self.classes).classes
        if self.ferplus and classes not in (CLASSES, CLASS_SETS["ferplus"]):
            raise UserError(
                f"--ferplus holds votes on FER-2013's faces for FER+'s classes, which --classes={self.classes} are "
                "not: leave out --classes for FER-2013's labels, or take the majority of the votes with "
                "--classes=ferplus."
            )
        if not 0 <= self.seed < 2**31:
            raise UserError(f"--seed is {self.seed}; it must be 0 or more, below 2**31.")

    def check(self) -> None:
        """Checks the values and the local paths. Reads no face, and does not import TensorFlow.

        Raises:
          UserError: a value is invalid, an input is missing, or the output may not be written to.
        """
        self.validate()
        expanded = self.expand_paths()
        for path in (expanded.output, *expanded.paths()):
            storage.check_not_bucket(path)
        expanded._check_output_outside_inputs()
        for path in filter(None, (*expanded.paths(), expanded.ferplus)):
            if not storage.is_remote(path) and not os.path.lexists(path):
                raise UserError(f"There is no {path}: check the name.")
            if not storage.is_remote(path) and os.path.exists(path):  # a broken link is reported when it is read
                files.check_regular(path)
        if not storage.is_remote(expanded.label_map):
            expanded.parse_labels()
        if not storage.is_remote(expanded.output):
            atomic_dir.check_output(expanded.output, self.overwrite)

    def labels_are_votes(self) -> bool:
        """Returns whether the labels are the majority of FER+'s votes."""
        return bool(self.ferplus) and label_map.parse_classes(self.classes).classes == CLASS_SETS["ferplus"]

    def parse_labels(self) -> LabelMap:
        """Returns the map of `classes` and `label_map`. Votes are joined to rows with FER-2013's labels.

        Raises:
          UserError: one of them is wrong.
        """
        base = label_map.parse_classes("" if self.labels_are_votes() else self.classes)
        return label_map.parse_label_map(self.label_map, base)

    def expand_paths(self) -> Options:
        """Returns the same options with the home folder in place of a leading "~" in paths.

        Raises:
          UserError: a path is not UTF-8, the only encoding that TensorFlow accepts.
        """
        output = _expand_path(self.output).rstrip("/")
        return dataclasses.replace(
            self, output=output, ferplus=_expand_path(self.ferplus), label_map=_expand_path(self.label_map)
        )

    def paths(self) -> list[str]:
        """Returns the paths that `input` names, which are comma-separated; none for synthetic faces.

        A comma may also be part of a path that exists.

        Raises:
          UserError: `input` names nothing.
        """
        if self.synthetic_rows() is not None:
            return []
        paths = [_expand_path(path).rstrip("/") or "/" for path in flag_paths.split(self.input)]
        if not paths:
            raise UserError("--input names no path: give a CSV, an archive of it, a folder or synthetic[:ROWS].")
        return paths

    def local_bytes(self) -> int:
        """Returns the bytes of the input's local files; those in folders and in stores do not count."""
        return sum(os.path.getsize(path) for path in self.paths() if os.path.isfile(path))

    def synthetic_rows(self) -> int | None:
        """Returns how many synthetic faces `input` requests; None where `input` names paths.

        Raises:
          UserError: the number is 0 or too large.
        """
        match = re.fullmatch(r"synthetic(?::(\d+))?", self.input)
        if not match:
            return None
        digits = match[1] or str(DEFAULT_SYNTHETIC_ROWS)
        rows = int(digits) if len(digits) < 20 else MAX_SYNTHETIC_ROWS + 1  # Python refuses to parse very long numbers
        if not rows:
            raise UserError("--input=synthetic:0 requests no face; synthetic:ROWS draws that many faces.")
        if rows > MAX_SYNTHETIC_ROWS:
            raise UserError(f"--input=synthetic:{rows} requests more than {MAX_SYNTHETIC_ROWS:,} faces: draw fewer.")
        return rows

    def manifest_options(self) -> dict[str, Any]:
        """Returns the options for the manifest: those that determine the bytes of the manifest and the shards."""
        return {
            "ferplus": os.path.basename(self.ferplus.rstrip("/")),
            "on_bad_row": self.on_bad_row,
            **({"classes": self.classes} if self.classes else {}),
            "label_map": label_map.manifest_text(self.label_map),
            "fit": self.fit,
            "drop": sorted(set(self.drop)),
            "shards": self.shards,
            "seed": self.seed,
        }

    def _check_output_outside_inputs(self) -> None:
        """Checks that the output is not within an input, where it would be read or change the input's checksum."""
        for path in self.paths():
            inside = os.path.join(os.path.realpath(self.output), "").startswith(
                os.path.join(os.path.realpath(path), "")
            )
            if inside and not storage.is_remote(path):
                raise UserError(f"--output={self.output} lies in {path}, which is read: choose a folder outside of it.")


def _expand_path(path: str) -> str:
    """Returns a path with the home folder in place of a leading "~", which a shell does not expand after "=".

    Raises:
      UserError: the path is not UTF-8, the only encoding that TensorFlow accepts.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        printable = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise UserError(f"{printable} holds a name whose bytes are not UTF-8: rename it.") from error
    literal = not path.startswith("~") or os.path.lexists(path)
    return path if literal else os.path.expanduser(path)
