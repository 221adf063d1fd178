"""What a conversion is asked to do, and what can be said of it before anything is read."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from fer import flag_paths, storage
from fer.config import DROPPABLE, FITS, ON_BAD_ROW
from fer.convert import atomic_dir
from fer.convert.readers import label_map
from fer.errors import UserError
from fer.io import files

DEFAULT_SYNTHETIC_ROWS = 4000
MAX_SYNTHETIC_ROWS = 10_000_000
MOST_SHARDS = 99_999  # of a split: the names of shards have five digits
MOST_WORKERS = 256


@dataclasses.dataclass(frozen=True)
class Options:
    """What a conversion is asked to do. The names are those of the flags of scripts/convert.py."""

    input: str  # paths, comma-separated, or synthetic[:ROWS]
    output: str
    ferplus: str = ""  # path of fer2013new.csv
    on_bad_row: str = "fail"
    label_map: str = ""  # what numbers and other names stand for: see label_map.parse_label_map
    fit: str = "stretch"  # of fer.config.FITS: how pictures that are not square become so
    drop: tuple[str, ...] = ()  # of fer.config.DROPPABLE
    preview: bool = False
    shards: int = 0  # of each split; 0 follows the size
    workers: int = 0  # 0 takes the machine's processors; changes nothing but the time
    seed: int = 0  # of synthetic faces, of the split where the source has none, and of the preview
    overwrite: bool = False

    def validate(self) -> None:
        """Raises UserError where a value means nothing."""
        unknown = [reason for reason in self.drop if reason not in DROPPABLE]
        if unknown:
            raise UserError(f"--drop={unknown[0]} means nothing; it takes {', '.join(DROPPABLE)}.")
        if "not_a_face" in self.drop and not self.ferplus:
            raise UserError("--drop=not_a_face goes by the votes of FER+: give them with --ferplus=fer2013new.csv.")
        if self.on_bad_row not in ON_BAD_ROW:
            raise UserError(f"--on_bad_row={self.on_bad_row} means nothing; it takes {' or '.join(ON_BAD_ROW)}.")
        if self.fit not in FITS:
            raise UserError(f"--fit={self.fit} means nothing; it takes {', '.join(FITS)}.")
        for name, number, most in (("shards", self.shards, MOST_SHARDS), ("workers", self.workers, MOST_WORKERS)):
            if not 0 <= number <= most:
                raise UserError(f"--{name} is {number}; it must be 0 to {most:,}.")
        if self.label_map and self.synthetic_rows() is not None:
            raise UserError(
                "--label_map is not for synthetic faces, whose labels are in FER-2013's order: leave it out."
            )
        if not 0 <= self.seed < 2**31:
            raise UserError(f"--seed is {self.seed}; it must be 0 or more, below 2**31.")

    def check(self) -> None:
        """Checks the values, and what the paths name on the local disk. Reads no face, and imports no TensorFlow.

        Raises:
          UserError: a value means nothing, an input is missing, or the output may not be written to.
        """
        self.validate()
        asked = self.expanded()
        for path in (asked.output, *asked.paths()):
            storage.check_not_bucket(path)
        asked._check_apart()
        for path in filter(None, (*asked.paths(), asked.ferplus)):
            if not storage.is_remote(path) and not os.path.lexists(path):
                raise UserError(f"There is no {path}: check the name.")
            if not storage.is_remote(path) and os.path.exists(
                path
            ):  # what is wrong with a link is said when it is read
                files.check_regular(path)
        if not storage.is_remote(asked.label_map):
            label_map.parse_label_map(asked.label_map)
        if not storage.is_remote(asked.output):
            atomic_dir.check_output(asked.output, self.overwrite)

    def expanded(self) -> Options:
        """Returns the same with the home folder for a leading "~" in its paths.

        Raises:
          UserError: a path is not UTF-8, which is all that TensorFlow takes.
        """
        output = _expand_path(self.output).rstrip("/")
        return dataclasses.replace(
            self, output=output, ferplus=_expand_path(self.ferplus), label_map=_expand_path(self.label_map)
        )

    def paths(self) -> list[str]:
        """Returns the paths that `input` names, which are comma-separated; none of synthetic faces.

        A comma may also be part of a path that is there.

        Raises:
          UserError: it names nothing.
        """
        if self.synthetic_rows() is not None:
            return []
        paths = [_expand_path(path).rstrip("/") or "/" for path in flag_paths.split(self.input)]
        if not paths:
            raise UserError("--input names nothing: give a CSV, an archive of it, a folder or synthetic[:ROWS].")
        return paths

    def synthetic_rows(self) -> int | None:
        """Returns how many faces are to be drawn; None where `input` names paths.

        Raises:
          UserError: it asks for no face.
        """
        asked = re.fullmatch(r"synthetic(?::(\d+))?", self.input)
        if not asked:
            return None
        digits = asked[1] or str(DEFAULT_SYNTHETIC_ROWS)
        rows = int(digits) if len(digits) < 20 else MAX_SYNTHETIC_ROWS + 1  # Python reads no number of any length
        if not rows:
            raise UserError("--input=synthetic:0 asks for no face; synthetic:ROWS draws that many.")
        if rows > MAX_SYNTHETIC_ROWS:
            raise UserError(f"--input=synthetic:{rows} asks for more than {MAX_SYNTHETIC_ROWS:,} faces: draw fewer.")
        return rows

    def recorded(self) -> dict[str, Any]:
        """Those that the manifest records: what decides its own and the shards' bytes."""
        return {
            "ferplus": os.path.basename(self.ferplus.rstrip("/")),
            "on_bad_row": self.on_bad_row,
            "label_map": label_map.manifest_text(self.label_map),
            "fit": self.fit,
            "drop": sorted(set(self.drop)),
            "shards": self.shards,
            "seed": self.seed,
        }

    def _check_apart(self) -> None:
        """Refuses an output within an input: what is written there would be read, or take part in the input's sum."""
        for path in self.paths():
            inside = os.path.join(os.path.realpath(self.output), "").startswith(
                os.path.join(os.path.realpath(path), "")
            )
            if inside and not storage.is_remote(path):
                raise UserError(f"--output={self.output} lies in {path}, which is read: choose a place outside of it.")


def _expand_path(path: str) -> str:
    """Returns a path with the home folder for a leading "~", which a shell leaves as it is after "=".

    Raises:
      UserError: the path is not UTF-8, which is all that TensorFlow takes.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        printable = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise UserError(f"{printable} holds a name whose bytes are not UTF-8: rename it.") from error
    literal = not path.startswith("~") or os.path.lexists(path)
    return path if literal else os.path.expanduser(path)
