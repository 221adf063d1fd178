"""Interpretation of the names and numbers of an input before it is parsed; ambiguous ones raise an error.

All of it runs in the reading process, so that an ambiguity stops the conversion even if bad rows are set aside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fer.convert.parser_process import Chunk
from fer.convert.readers import csv_reader, image_folder, label_map
from fer.convert.readers.label_map import LabelMap
from fer.convert.rows import NO_SPLIT, Block
from fer.errors import UserError
from fer.labels import CLASSES, MAX_CLASSES, check_classes

# Rows of a table with labels above FER-2013's range: from this number and share on, all numbers are ambiguous.
AMBIGUOUS_ROWS, AMBIGUOUS_SHARE = 3, 0.01
MIN_ROWS_WITHOUT_ZERO = 7  # rows from which one such label is enough if no label is 0: the order may begin at 1


@dataclasses.dataclass(frozen=True)
class Rules:
    """The rules of interpretation: classes of names, and how pictures that are not square are made square."""

    labels: LabelMap = label_map.DEFAULT_MAP
    fit: str = "stretch"  # of fer.config.FITS


class Interpreter:
    """Adds the rules to the chunks of all inputs of a conversion, and records the class of each name."""

    def __init__(self, rules: Rules):
        self._rules = rules
        self._labels = rules.labels  # with the classes that were collected so far
        self._label_of_name: dict[str, int] = {}  # labels by folder name and by number
        self._example_by_kind: dict[type, str] = {}  # a table, and a picture in a numbered folder, with mapped numbers
        self._num_rows = self._num_high = self._num_zeros = 0  # of the current input
        self._example_by_split: dict[bool, str] = {}  # of the current input: a picture with a split and one without

    def interpret(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yields the chunks of an input with the rules.

        Raises:
          UserError: labels or splits are ambiguous; the message names the option that resolves it.
        """
        self._num_rows = self._num_high = self._num_zeros = 0
        self._example_by_split = {}
        for chunk in chunks:
            if isinstance(chunk, image_folder.Pictures):
                for picture in chunk.pictures:
                    if picture.row is None or picture.row.fault is None:
                        self._labels = _collect_class(picture, self._labels)
                        self._record_folder(picture)
                yield dataclasses.replace(chunk, labels=self._labels, fit=self._rules.fit)
                continue
            csv_reader.check_columns(chunk.name, chunk.header)
            if self._labels.collects:
                raise UserError(
                    f"{chunk.name} is a table of pixels, without class folders: name the classes with "
                    "--classes=NAME,NAME,... in place of --classes=folders."
                )
            if chunk.header.emotion is not None:
                self._label_of_name.update(self._rules.labels.number_labels())
                self._check_one_kind(csv_reader.Lines, chunk.name)
            yield dataclasses.replace(chunk, header=dataclasses.replace(chunk.header, labels=self._rules.labels))

    def count(self, block: Block) -> None:
        """Counts the rows of the current input, its labels out of range and its labels 0."""
        self._num_rows += block.count
        self._num_zeros += int((block.labels == 0).sum())
        self._num_high += sum(reject.kind == csv_reader.LABEL_OUT_OF_RANGE for reject in block.rejects)

    def check_order(self, name: str) -> None:
        """Checks that few labels of the current input are above FER-2013's range; many prove that its order is another.

        Args:
          name: of the input.

        Raises:
          UserError: lists the common orders, and how to name one.
        """
        many = self._num_high >= AMBIGUOUS_ROWS and self._num_high > AMBIGUOUS_SHARE * self._num_rows
        from_one = self._num_high > 0 and not self._num_zeros and self._num_rows >= MIN_ROWS_WITHOUT_ZERO
        if (many or from_one) and not self._rules.labels.numbered:
            what = (
                f"labels above {len(CLASSES) - 1} in {self._num_rows:,} rows, so that its numbers are not FER-2013's"
                if self._labels.classes == CLASSES
                else f"labels that are numbers in {self._num_rows:,} rows"
            )
            raise UserError(
                f"{name} has {self._num_high:,} {what}; data sets number the classes in different orders "
                f"({label_map.describe_orders()}): name the order of this one with --label_map={label_map.FLAG_VALUES}."
            )

    def label_map(self) -> dict[str, Any]:
        """Returns the flag's value, and the class of each name that occurred, "none" for an excluded one."""
        names = sorted(self._label_of_name, key=lambda name: (not label_map.is_number(name), len(name), name))
        return {
            "given": self._rules.labels.given,
            "names": {name: self._labels.class_name(self._label_of_name[name]) for name in names},
        }

    def classes(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Returns the classes, and the label of each class of the blocks, int64 [n].

        Collected classes are sorted by name; those of the label map that do not occur are left out, with label -1.

        Raises:
          UserError: there are too few or too many collected classes, or one of their names is wrong.
        """
        found = self._labels.classes
        if not self._labels.collects:
            return found, np.arange(len(found))
        used = {label for label in self._label_of_name.values() if label >= 0}
        order = sorted(used, key=lambda label: (found[label].casefold(), found[label]))
        try:
            classes = check_classes(found[label] for label in order)
        except ValueError as error:
            raise UserError(f"--classes=folders: {error} Rename the folders, or name them with --label_map.") from error
        labels = np.full(len(found), -1)
        labels[order] = np.arange(len(order))
        return classes, labels

    def _record_folder(self, picture: image_folder.Picture) -> None:
        """Records the class of a picture's folder.

        Raises:
          UserError: the folder is a number whose order is not known.
        """
        labels = self._labels
        image_folder.check_numbered_folder(picture, labels)
        label, split = image_folder.find_label_and_split(picture, labels)
        folder = image_folder.get_class_folder(picture, labels)
        if label is not None:
            self._label_of_name[folder] = label
            self._check_all_have_split(picture.name, split != NO_SPLIT)
        if label_map.is_number(folder):
            self._check_one_kind(image_folder.Pictures, picture.name)

    def _check_all_have_split(self, name: str, has_split: bool) -> None:
        """Checks that an input names a split for all pictures or for none.

        Otherwise, a test split of an unknown name would be trained on.

        Raises:
          UserError: names a picture with a split and one without.
        """
        self._example_by_split.setdefault(has_split, name)
        if len(self._example_by_split) > 1:
            raise UserError(
                f"{self._example_by_split[True]} has a split by its folder or its name, and "
                f"{self._example_by_split[False]} has none: put each picture below a folder train, validation or test, "
                "or give them as two inputs."
            )

    def _check_one_kind(self, kind: type, name: str) -> None:
        """Checks that a map of numbers does not apply to both a table and folders: they are of different data sets.

        Raises:
          UserError: names one of each.
        """
        self._example_by_kind.setdefault(kind, name)
        if len(self._example_by_kind) > 1 and self._rules.labels.numbered:
            one, other = self._example_by_kind.values()
            raise UserError(
                f"--label_map={self._rules.labels.given} would give the numbers of {one} and of {other} the same "
                "order: rename the numbered folders to words, such as angry."
            )


def _collect_class(picture: image_folder.Picture, labels: LabelMap) -> LabelMap:
    """Returns the map with the class of a picture, if the map collects classes.

    Raises:
      UserError: there are too many classes.
    """
    labels = image_folder.collect_class(picture, labels)
    if labels.collects and len(labels.classes) > 2 * MAX_CLASSES:
        raise UserError(
            f"--classes=folders finds more than {MAX_CLASSES} classes: {label_map.describe_classes(labels.classes)}. "
            "Give a folder whose folders are classes."
        )
    return labels
