"""What the names and numbers of an input mean, before it is parsed: nothing is guessed that could be wrong.

All of it is done in the process that reads, so that a doubt stops the conversion whatever is set aside of bad rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from fer.convert.readers import csv_reader, image_folder, label_map
from fer.convert.readers.label_map import LabelMap
from fer.convert.rows import NO_SPLIT, Block
from fer.convert.worker_pool import Chunk
from fer.errors import UserError
from fer.labels import CLASSES

# Rows of a table whose labels are numbers above FER-2013's: from this many and this share on, all numbers are doubted.
DOUBTED_ROWS, DOUBTED_SHARE = 3, 0.01
MIN_ROWS_WITHOUT_ZERO = 7  # rows from which on one such label is enough where no label is 0: the order may begin at 1


@dataclasses.dataclass(frozen=True)
class Rules:
    """How inputs are understood: what names stand for, and how pictures that are not square become so."""

    labels: LabelMap = label_map.DEFAULT_MAP
    fit: str = "stretch"  # of fer.config.FITS


class Interpreter:
    """Gives the pieces of all inputs of a conversion the rules to parse them by, and notes what stood for what."""

    def __init__(self, rules: Rules):
        self._rules = rules
        self._meanings: dict[str, int] = {}  # labels by the names of folders and by numbers
        self._numbered: dict[type, str] = {}  # a table, and a picture in a numbered folder, whose numbers are mapped
        self._rows = self._high = self._zeros = 0  # of the present input: rows, labels out of range, labels 0
        self._divided: dict[bool, str] = {}  # of the present input, a picture that a split is named for, and one not

    def interpret(self, pieces: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yields the pieces of an input with the rules.

        Raises:
          UserError: labels or splits could be read wrongly; the message says how to name what is meant.
        """
        self._rows = self._high = self._zeros = 0
        self._divided = {}
        for piece in pieces:
            if isinstance(piece, image_folder.Pictures):
                for picture in piece.pictures:
                    self._note(picture)
                yield dataclasses.replace(piece, labels=self._rules.labels, fit=self._rules.fit)
                continue
            csv_reader.check_columns(piece.name, piece.header)
            if piece.header.emotion is not None:
                self._meanings.update(self._rules.labels.numbers())
                self._check_one_kind(csv_reader.Lines, piece.name)
            yield dataclasses.replace(piece, header=dataclasses.replace(piece.header, labels=self._rules.labels))

    def count(self, block: Block) -> None:
        """Counts the rows of the present input, its labels out of range and its labels 0."""
        self._rows += block.count
        self._zeros += int((block.labels == 0).sum())
        self._high += sum(reject.kind == csv_reader.LABEL_OUT_OF_RANGE for reject in block.rejects)

    def check_order(self, name: str) -> None:
        """Refuses the present input if many of its labels are numbers above FER-2013's: the others mean other classes.

        Args:
          name: of the input.

        Raises:
          UserError: shows the usual orders, and how to name one.
        """
        many = self._high >= DOUBTED_ROWS and self._high > DOUBTED_SHARE * self._rows
        from_one = self._high > 0 and not self._zeros and self._rows >= MIN_ROWS_WITHOUT_ZERO
        if (many or from_one) and not self._rules.labels.numbered:
            raise UserError(
                f"{name} has {self._high:,} labels above {len(CLASSES) - 1} in {self._rows:,} rows, so that its "
                "numbers are not FER-2013's; data sets number the classes in different orders "
                f"({label_map.describe_orders()}): name the order of this one with --label_map={label_map.FLAG_VALUES}."
            )

    def label_map(self) -> dict[str, Any]:
        """Returns the map as given, and the class of each name that was met, "none" of one that is left out."""
        names = sorted(self._meanings, key=lambda name: (not label_map.is_number(name), len(name), name))
        return {
            "given": self._rules.labels.given,
            "names": {name: label_map.class_name(self._meanings[name]) for name in names},
        }

    def _note(self, picture: image_folder.Picture) -> None:
        """Notes what a picture's class folder stands for.

        Raises:
          UserError: it is a number whose order is not known.
        """
        labels = self._rules.labels
        image_folder.check_numbered_folder(picture, labels)
        label, split = image_folder.infer_label_and_split(picture.path, picture.opened, labels)
        folder = image_folder.get_class_folder(picture)
        if label is not None:
            self._meanings[folder] = label
            self._check_divided(picture.name, split != NO_SPLIT)
        if label_map.is_number(folder):
            self._check_one_kind(image_folder.Pictures, picture.name)

    def _check_divided(self, name: str, has_split: bool) -> None:
        """Refuses an input that names a split for some pictures alone: a test split of another name would train.

        Raises:
          UserError: names a picture with a split and one without.
        """
        self._divided.setdefault(has_split, name)
        if len(self._divided) > 1:
            raise UserError(
                f"{self._divided[True]} is of a split by its folder or its name, and {self._divided[False]} is of "
                "none: put each picture below a folder train, validation or test, or give them as two inputs."
            )

    def _check_one_kind(self, kind: type, name: str) -> None:
        """Refuses a map of numbers that would serve a table and folders alike: they are of different data sets.

        Raises:
          UserError: names one of each.
        """
        self._numbered.setdefault(kind, name)
        if len(self._numbered) > 1 and self._rules.labels.numbered:
            one, other = self._numbered.values()
            raise UserError(
                f"--label_map={self._rules.labels.given} would give the numbers of {one} and of {other} the same "
                "order: rename the numbered folders to words, such as angry."
            )
