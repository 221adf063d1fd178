"""Pictures in class folders, such as `train/angry/im0.png` or `test/3/PrivateTest_10131363.jpg` -> faces."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fer.convert.readers import image_reader, label_map
from fer.convert.readers.label_map import DEFAULT_MAP, LabelMap
from fer.convert.rows import NO_SPLIT, SPLIT_OF_USAGE, SPLITS, TRAIN_OR_VAL, Block, Reject
from fer.errors import UserError
from fer.labels import PIXELS

_TRAIN = ("train", "training", "trainset")
_VALIDATION = ("validation", "valid", "val", "valset", "dev")
_TEST = ("test", "testing", "testset")
_SPLIT_OF_WORD = {
    **dict.fromkeys(_TRAIN, TRAIN_OR_VAL),
    **dict.fromkeys((*_VALIDATION, "publictest"), SPLITS.index("validation")),
    **dict.fromkeys((*_TEST, "privatetest"), SPLITS.index("test")),
}
_IGNORED_WORDS = {
    *("set", "data", "images", "image", "img", "faces"),
    *("class", "classes", "pictures", "photos", "split", "folder"),
}
# File names of FER-2013: "Training_10118481.jpg"
_FER2013_NAME = re.compile(r"(training|publictest|privatetest)_\d+(?:\.\w+)?")
# Split folders that agree with each of these names. Published copies have one folder for both tests.
_MATCHING_FOLDERS = {
    "training": _TRAIN,
    "publictest": (*_VALIDATION, *_TEST, "publictest"),
    "privatetest": (*_TEST, "privatetest"),
}


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row of a table of pictures: see `fer.convert.readers.picture_table`."""

    file: str  # the table, for messages
    form: str  # description of the table for the user
    line: int
    text: bytes  # the unchanged row
    label: str
    split: int  # index into SPLITS, TRAIN_OR_VAL or NO_SPLIT
    fault: tuple[str, str, str] | None = None  # column, kind and reason of a bad row

    def replace(self, **changes: Any) -> TableRow:
        """Returns the row with other values of some fields."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture's file: `name` for messages, `path` below the source with "/" between folders, and its bytes.

    `opened` is the name of the source with that of its parent folder, if the source is a folder: "two/train". `row` is
    the row of a table that names the picture, its label and its split, which its path then does not.
    """

    name: str
    path: str
    content: bytes
    opened: str = ""
    row: TableRow | None = None


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Consecutive pictures, not yet decoded, with the arguments of `parse_pictures`."""

    pictures: tuple[Picture, ...]
    labels: LabelMap = DEFAULT_MAP
    fit: str = "stretch"


def infer_label_and_split(path: str, opened: str = "", labels: LabelMap = DEFAULT_MAP) -> tuple[int | None, int]:
    """Infers label and split from a picture's path.

    The label is the name of the picture's folder. A number counts if `labels` maps it, or if the file's name is one of
    FER-2013 (`PublicTest_88305960.jpg`), which proves FER-2013's order. The split is the beginning of such a name, or
    otherwise that of the innermost folder that names one.

    Args:
      path, opened: those of a `Picture`. The opened folder counts as a parent. Its own parent counts only for pictures
        directly in the opened folder, which is then their class, as in "train/angry". Folders further out (/home/test)
        are ignored.
      labels: classes of folder names.

    Returns:
      The label (None if unknown), and the split (or TRAIN_OR_VAL or NO_SPLIT).
    """
    *above, folder, file = _path_parts(path, opened)
    usage = _usage_of_name(file)
    label = labels.find(folder, fer2013=bool(usage))
    if usage:
        return label, SPLIT_OF_USAGE[usage]
    word = _find_split_word(above)
    return label, _SPLIT_OF_WORD[word] if word else NO_SPLIT


def find_label_and_split(picture: Picture, labels: LabelMap = DEFAULT_MAP) -> tuple[int | None, int]:
    """Returns label and split of a picture, from its row of a table if it has one, otherwise from its path.

    Returns:
      See `infer_label_and_split`.
    """
    if picture.row is not None:
        return labels.find(picture.row.label), picture.row.split
    if labels.collects and not get_class_folder(picture, labels):
        return None, NO_SPLIT
    return infer_label_and_split(picture.path, picture.opened, labels)


def get_class_folder(picture: Picture, labels: LabelMap = DEFAULT_MAP) -> str:
    """Returns the name of a picture's folder, or the value of its row, which names its class.

    If `labels` collects the classes, only a folder below the input that does not name a split is a class; otherwise "".
    """
    if picture.row is not None:
        return picture.row.label
    folder = _path_parts(picture.path, picture.opened)[-2]
    is_class = not labels.collects or ("/" in picture.path and not _find_split_word([folder]))
    return folder if is_class else ""


def collect_class(picture: Picture, labels: LabelMap) -> LabelMap:
    """Returns the map with the class of a picture's folder or row, if the map collects classes and has none for it."""
    name = get_class_folder(picture, labels)
    return labels.add_class(name) if labels.collects and name.strip() and labels.find(name) is None else labels


def check_numbered_folder(picture: Picture, labels: LabelMap) -> None:
    """Checks that the order of a numbered class folder is known.

    Raises:
      UserError: lists the common orders, and how to name one.
    """
    folder, file = get_class_folder(picture), picture.path.rpartition("/")[2]
    if label_map.is_number(folder) and not labels.numbered and labels.find(folder) is None:
        if picture.row is None and _usage_of_name(file):
            return
        where = f"lies in the class folder {folder!r}" if picture.row is None else f"has the label {folder!r}"
        raise UserError(
            f"{picture.name} {where}, and data sets number the classes in different orders "
            f"({label_map.describe_orders()}): name the order of this one with --label_map={label_map.FLAG_VALUES}."
        )


def find_split_conflict(path: str, opened: str = "") -> str:
    """Returns the conflict between a file name of FER-2013 and the split folder it is in; "" if there is none."""
    *above, _, file = _path_parts(path, opened)
    usage, word = _usage_of_name(file), _find_split_word(above)
    if not usage or not word or word in _MATCHING_FOLDERS[usage]:
        return ""
    return (
        f"its name stands for {file.partition('_')[0]}, and a folder above it for {word}: rename the file, or move "
        "it to the folder of its split"
    )


def _usage_of_name(file: str) -> str:
    """Returns the value of the column Usage with which a file name of FER-2013 begins, in lower case; otherwise ""."""
    name = _FER2013_NAME.fullmatch(file.lower())
    return name[1] if name else ""


def _find_split_word(folders: Sequence[str]) -> str:
    """Returns the split word of the innermost folder that names a split: "train" of "Train_images"; "" if none does."""
    for folder in reversed(folders):
        words = re.findall(r"\w+", folder.lower().replace("_", " "))
        word = "".join([word for word in words if word not in _IGNORED_WORDS])
        if word in _SPLIT_OF_WORD:
            return word
    return ""


def _path_parts(path: str, opened: str) -> list[str]:
    """Returns the names of the relevant folders of a picture, from the outermost, and its file name: three or more."""
    outer = opened.split("/")[-1 if "/" in path else -2 :]
    return ["", "", *outer, *path.split("/")]


def parse_pictures(pictures: Sequence[Picture], labels: LabelMap = DEFAULT_MAP, fit: str = "stretch") -> Block:
    """Decodes pictures into faces and rejects, in their order.

    Args:
      pictures: to decode.
      labels: classes of folder names.
      fit: of `fer.config.FITS`.
    """
    faces, found, rejects = [], [], []
    altered: collections.Counter[str] = collections.Counter()
    excluded = 0
    for row, picture in enumerate(pictures):
        label, split = find_label_and_split(picture, labels)
        if label == label_map.EXCLUDED:
            excluded += 1
            continue
        fault = _find_fault(picture, label, labels)
        if fault is None:
            try:
                face, changes = image_reader.read_face(picture.content, fit)
            except image_reader.PictureError as error:
                fault = ("bad picture", f"it is not a readable picture ({error})")
        if fault is not None:
            rejects.append(_reject(picture, *fault))
            continue
        altered.update(changes)
        faces.append(face)
        found.append((label, split, row))
    columns = np.array(found, np.int64).reshape(-1, 3)
    return Block(
        images=np.array(faces, np.uint8).reshape(-1, PIXELS),
        labels=columns[:, 0],
        splits=columns[:, 1],
        rows=columns[:, 2],
        count=len(pictures),
        blank=0,
        rejects=tuple(rejects),
        altered=altered,
        excluded=excluded,
    )


def _reject(picture: Picture, kind: str, reason: str) -> Reject:
    """Returns the reject of a picture, which names its row if a table has one."""
    row = picture.row
    if row is None:
        return Reject(picture.name, 0, "", kind, reason, b"")
    column = row.fault[0] if row.fault else "label" if kind == "bad label" else "path"
    return Reject(row.file, row.line, column, kind, reason, row.text)


def _find_fault(picture: Picture, label: int | None, labels: LabelMap) -> tuple[str, str] | None:
    """Returns kind and description of the fault of a picture's path or row; None if there is none."""
    if picture.row is not None and picture.row.fault is not None:
        return picture.row.fault[1:]
    if label is None:
        folder = get_class_folder(picture, labels)
        if labels.collects:
            return "bad label", "it lies in no class folder below the input: move it into one, or remove it"
        what = "its folder" if picture.row is None else "its label"
        return "bad label", f"{what} {folder!r} is no class; {labels.advice(folder)}"
    if picture.row is not None:
        return None
    contradicting = find_split_conflict(picture.path, picture.opened)
    return ("contradicting split", contradicting) if contradicting else None


def parse_split(text: str) -> int | None:
    """Returns the split that a cell or a file's name stands for, such as "train", "Training" or "val_set".

    Returns:
      An index into SPLITS or TRAIN_OR_VAL; None if the text names no split.
    """
    usage, word = text.strip().lower(), _find_split_word([text])
    return SPLIT_OF_USAGE.get(usage, _SPLIT_OF_WORD.get(word))
