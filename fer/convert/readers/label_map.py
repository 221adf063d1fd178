"""Label maps: the class of a folder's name, or of a value of the column `emotion`.

Words are always understood ("anger", "Happiness", "0_neutral"). Numbers denote different classes in every data set, so
that they are understood only by an order that the user names, or where FER-2013's own file names or table prove its
order.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from fer.errors import UserError
from fer.labels import CLASS_SETS, CLASSES, EMOTION_OF_WORD, check_classes

EXCLUDED = -2  # label of a name that is mapped to "none": its faces are excluded and counted

FOLDERS = "folders"  # value of --classes: the names in the input are the classes
MAX_LISTED = 12  # classes in a message

# The numbers of published data sets.
ORDERS = {
    "fer2013": dict(enumerate(CLASS_SETS["fer2013"])),
    "ferplus": dict(enumerate(CLASS_SETS["ferplus"])),
    "affectnet": dict(enumerate(CLASS_SETS["affectnet8"])),
    "rafdb": dict(enumerate(CLASS_SETS["rafdb"], 1)),
}
FLAG_VALUES = f"{', '.join(ORDERS)}, FILE.json or pairs such as 0=angry,1=disgust"
CLASSES_VALUES = f"{', '.join(CLASS_SETS)}, {FOLDERS}, or names separated by commas"

_ORDER_OF_SET = {**{name: name for name in CLASS_SETS}, "affectnet7": "affectnet", "affectnet8": "affectnet"}
_AFFECTNET_OTHERS = (8, 9, 10)  # no expression, uncertain, no face
_FER2013_NUMBERS = {str(number): name for number, name in ORDERS["fer2013"].items()}
_NONE = "none"
_EXAMPLE = '{"0": "angry", "1": "disgust"}'
_NUMBER = re.compile(r"(?:(?:class|cls|label|emotion|expression|category)[\s_.:-]*)?([0-9]+)")


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Labels by name, for a set of classes.

    A name is a class's own, or another word for the same expression, such as "anger" for "angry". `names` holds further
    ones. `numbers` is the order of the set that the user named: class folders may have its numbers. With `collects`,
    the classes are the names of the input, see `add_class`: no other word then stands for a class.
    """

    given: str = ""  # the value of --label_map, "" without a map
    names: dict[str, int] = dataclasses.field(default_factory=dict)  # by normalized name; a class, or EXCLUDED
    classes: tuple[str, ...] = CLASSES
    numbers: dict[str, int] = dataclasses.field(default_factory=dict)  # a class, or EXCLUDED
    collects: bool = False

    def find(self, name: str, fer2013: bool = False) -> int | None:
        """Returns the class of a folder's name.

        Args:
          name: of the folder.
          fer2013: whether FER-2013's order is proven, so that its numbers count if no map was given.

        Returns:
          An index into `classes`, EXCLUDED, or None for a name without a class.
        """
        key = _normalize_name(name)
        if key in self.names:
            return self.names[key]
        words = _labels_of_words(self.classes, not self.collects)
        exact = words.get(name.strip().casefold())
        if exact is not None:
            return exact
        if fer2013 and not self.numbered and key in _FER2013_NUMBERS:
            return words.get(_FER2013_NUMBERS[key])
        if not self.numbered and key in self.numbers:
            return self.numbers[key]
        return None if self.collects else words.get(_strip_signs(key))

    @property
    def numbered(self) -> bool:
        """True if the map contains numbers."""
        return any(map(_is_digits, self.names))

    def add_class(self, name: str) -> LabelMap:
        """Returns the map with a class of that name, if it collects classes and has none."""
        words = _labels_of_words(self.classes, not self.collects)
        known = not self.collects or name.strip().casefold() in words
        return self if known else dataclasses.replace(self, classes=(*self.classes, name.strip()))

    def number_labels(self) -> dict[str, int]:
        """Returns the label of each number that is valid in the column `emotion` of a table of pixels.

        Such tables have FER-2013's form, so that without a map, numbers are valid for FER-2013's classes alone.
        """
        if self.numbered:
            return {name: label for name, label in self.names.items() if _is_digits(name)}
        return {str(label): label for label in range(len(CLASSES))} if self.classes == CLASSES else {}

    def cell_labels(self) -> dict[bytes, int]:
        """Returns the label of each value that is valid in the column `emotion` of a table, in lower case."""
        words = _labels_of_words(self.classes, True) if self.given or self.classes != CLASSES else {}
        cells = {name.encode(): label for name, label in {**self.number_labels(), **words, **self.names}.items()}
        return {**{name.encode().lower(): label for label, name in enumerate(self.classes) if words}, **cells}

    def advice(self, name: str) -> str:
        """Returns advice for a name without a class."""
        chosen, excluded = (
            f"--label_map={shlex.quote(','.join(filter(None, [self.given, f'{name}={value}'])))}"
            for value in (self.classes[0], _NONE)
        )
        nouns = " and their nouns" if self.classes == CLASSES else ""
        return (
            f"{describe_classes(self.classes)}{nouns} are: map it with {chosen}, or another class, or exclude it with "
            f"{excluded}; with --classes={FOLDERS}, the folders or labels themselves are the classes"
        )

    def class_name(self, label: int) -> str:
        """Returns the name of a class, or "none" for EXCLUDED."""
        return _NONE if label == EXCLUDED else self.classes[label]


DEFAULT_MAP = LabelMap()  # no map: words, and numbers where FER-2013's order is proven


def describe_classes(classes: Sequence[str]) -> str:
    """Returns the names of classes for a message, shortened."""
    more = f" and {len(classes) - MAX_LISTED} more" if len(classes) > MAX_LISTED else ""
    return ", ".join(classes[:MAX_LISTED]) + more


def is_number(name: str) -> bool:
    """Returns whether a folder's name is a number alone, such as "3", "03" or "class_3"."""
    return _is_digits(_normalize_name(name))


def describe_orders() -> str:
    """Returns the orders in which class folders are usually numbered, for a message."""
    return "; ".join(
        f"{order} {', '.join(f'{number} {name}' for number, name in ORDERS[order].items())}"
        for order in ("fer2013", "affectnet", "rafdb")
    )


def parse_classes(text: str) -> LabelMap:
    """Parses the value of the flag `--classes`.

    Args:
      text: a name of `CLASS_SETS`, `FOLDERS`, or names of classes, comma-separated; "" for FER-2013's classes.

    Returns:
      A map for these classes. For a named set, its published numbers count in class folders: those of classes that the
      set leaves out, such as AffectNet's contempt and "no face", are excluded.

    Raises:
      UserError: a name is wrong, see `fer.labels.check_classes`, or there are too few or too many.
    """
    if not text.strip():
        return DEFAULT_MAP
    published = re.sub(r"[-_ ]", "", text.lower().replace("+", "plus"))
    if published == FOLDERS:
        return LabelMap(classes=(), collects=True)
    if published in CLASS_SETS:
        classes, order = CLASS_SETS[published], ORDERS[_ORDER_OF_SET[published]]
        numbers = {str(number): classes.index(name) if name in classes else EXCLUDED for number, name in order.items()}
        others = _AFFECTNET_OTHERS if _ORDER_OF_SET[published] == "affectnet" else ()
        return LabelMap(classes=classes, numbers={**numbers, **{str(number): EXCLUDED for number in others}})
    if "," not in text:
        raise UserError(f"--classes={text} is no set of classes; it takes {CLASSES_VALUES}.")
    try:
        return LabelMap(classes=check_classes(text.split(",")))
    except ValueError as error:
        raise UserError(f"--classes={text}: {error}") from error


def parse_label_map(text: str, base: LabelMap = DEFAULT_MAP) -> LabelMap:
    """Parses the value of the flag `--label_map`.

    Args:
      text: names of `ORDERS`, paths of JSON files and pairs NAME=CLASS, comma-separated; a pair overrides the order or
        file before it. A class is a word such as happy or happiness, or none. The classes of an order that the set
        lacks are not mapped.
      base: the map of the classes.

    Raises:
      UserError: an order, a class or a file is unknown or damaged, or a name is mapped twice.
    """
    names: dict[str, int] = {}
    pairs: dict[str, int] = {}
    order = ""
    for item in [text] if _is_json_path(text) else filter(None, map(str.strip, text.split(","))):
        published = re.sub(r"[-_ ]", "", item.lower())
        published = _ORDER_OF_SET.get(published, published)
        if published in ORDERS:
            if order:
                raise UserError(f"--label_map={text} names two orders, {order} and {item}: name one.")
            order = published
            for number, name in ORDERS[order].items():
                base = base.add_class(name)
                label = base.find(name)
                names.update({} if label is None else {str(number): label})
        elif _is_json_path(item):
            base = _read_json(os.path.expanduser(item), names, base)
        elif "=" in item:
            name, _, value = item.rpartition("=")
            base = _add_name(pairs, (name, value), base, f"--label_map={text}")
        else:
            raise UserError(f"--label_map={text}: {item!r} is not a map; it takes {FLAG_VALUES}.")
    if text and not (names or pairs):
        raise UserError(f"--label_map={text} maps nothing; it takes {FLAG_VALUES}.")
    return dataclasses.replace(base, given=manifest_text(text), names={**names, **pairs})


def manifest_text(text: str) -> str:
    """Returns the flag's value for the manifest: for a file, its name without folders."""
    return os.path.basename(text) if _is_json_path(text) else text


def _is_json_path(text: str) -> bool:
    """Returns whether the flag's value is the path of a JSON file."""
    if not text.lower().endswith(".json"):
        return False
    return not re.search("[,=]", text) or os.path.isfile(os.path.expanduser(text))


def _read_json(path: str, names: dict[str, int], base: LabelMap) -> LabelMap:
    """Adds the names of {"0": "angry", ...}, or ["angry", ...] in the order of the numbers; null excludes a name.

    Returns:
      `base`, with further classes if it collects them.

    Raises:
      UserError: the file is missing, is not valid JSON or maps nothing.
    """
    from fer.io import files  # here, so that processes that parse do not load TensorFlow

    pairs: list[tuple[str, Any]] = []
    content = files.read_bytes(path, f"There is no {path}: --label_map takes {FLAG_VALUES}.")
    try:
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not valid JSON ({error}): write {{'0': 'angry', ...}} with double quotes."
        ) from error
    if isinstance(found, list):
        is_object = all(isinstance(entry, tuple) for entry in found)
        pairs = found if is_object else [(str(number), name) for number, name in enumerate(found)]
    if not pairs:
        raise UserError(f"{path} maps nothing: write an object such as {_EXAMPLE}.")
    known: dict[str, int] = {}
    for name, value in pairs:
        base = _add_name(known, (name, _NONE if value is None else value), base, path)
    names.update(known)
    return base


def _add_name(names: dict[str, int], pair: tuple[str, Any], base: LabelMap, where: str) -> LabelMap:
    """Adds a name and the label of its class.

    Returns:
      `base`, with a further class if it collects them.

    Raises:
      UserError: the name was added before, or the class is unknown.
    """
    name, value = pair
    key = _normalize_name(name)
    if key in names:
        raise UserError(f"{where} maps {name!r} twice: keep one.")
    if isinstance(value, str) and value.strip().lower() == _NONE:
        names[key] = EXCLUDED
        return base
    base = base.add_class(value) if isinstance(value, str) and value.strip() else base
    words = _labels_of_words(base.classes, not base.collects)
    label = None
    if isinstance(value, str):
        label = words.get(value.strip().casefold(), words.get(_strip_signs(_normalize_name(value))))
    if label is None:
        raise UserError(f"{where} maps {name!r} to {value!r}, which is not {describe_classes(base.classes)} or none.")
    names[key] = label
    return base


def _is_digits(key: str) -> bool:
    """Returns whether a normalized name is a number."""
    return key.isascii() and key.isdigit()


def _normalize_name(name: str) -> str:
    """Returns a name in lower case; for a number, alone or after a word such as "class_", only its digits."""
    text = name.strip().lower()
    number = _NUMBER.fullmatch(text)
    return (number[1].lstrip("0") or "0") if number else text


def _strip_signs(key: str) -> str:
    """Returns a name without numbers and signs at either end: "happy" of "3_happy" and of "happy (3)"."""
    return re.sub(r"^[\W\d_]+|[\W\d_]+$", "", key)


@functools.lru_cache
def _labels_of_words(classes: tuple[str, ...], synonyms: bool) -> dict[str, int]:
    """Returns the label of each class's name, in lower case, and of the other words for the expression it names.

    Args:
      classes: names in label order.
      synonyms: whether other words count; "joy" does not if both happy and happiness are classes.
    """
    found = {name.casefold(): label for label, name in enumerate(classes)}
    if not synonyms:
        return found
    of_emotion: dict[str, list[int]] = {}
    for name, label in found.items():
        of_emotion.setdefault(EMOTION_OF_WORD.get(name, ""), []).append(label)
    others = {
        word: of_emotion[emotion][0]
        for word, emotion in EMOTION_OF_WORD.items()
        if len(of_emotion.get(emotion, ())) == 1
    }
    return {**others, **found}
