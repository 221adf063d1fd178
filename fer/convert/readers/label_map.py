"""Label maps: the class of a folder's name, or of a value of the column `emotion`.

Words are always understood ("anger", "Happiness", "0_neutral"). Numbers denote different classes in every data set, so
that they are understood only by an order that the user names, or where FER-2013's own file names or table prove its
order.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
from typing import Any

from fer.errors import UserError
from fer.labels import CLASSES, FERPLUS_OF_CLASS

EXCLUDED = -2  # label of a name that is mapped to "none": its faces are excluded and counted

# The numbers of published data sets: FER-2013 (Goodfellow et al. 2013), AffectNet (Mollahosseini et al. 2017) and
# RAF-DB (Li et al. 2017).
ORDERS = {
    "fer2013": dict(enumerate(CLASSES)),
    "affectnet": dict(enumerate(("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"))),
    "rafdb": dict(enumerate(("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), 1)),
}
FLAG_VALUES = f"{', '.join(ORDERS)}, FILE.json or pairs such as 0=angry,1=disgust"

_FER2013_NUMBERS = {str(number) for number in ORDERS["fer2013"]}
_NONE = "none"
_EXAMPLE = '{"0": "angry", "1": "disgust"}'
_WORDS = {
    **{name: label for label, name in enumerate(CLASSES)},
    **{name: label for label, name in enumerate(FERPLUS_OF_CLASS)},  # anger, happiness, sadness
    **dict.fromkeys(("disgusted", "disgusting"), CLASSES.index("disgust")),
    **dict.fromkeys(("fearful", "afraid", "scared"), CLASSES.index("fear")),
    **dict.fromkeys(("joy", "joyful"), CLASSES.index("happy")),
    **dict.fromkeys(("surprised", "suprise", "suprised"), CLASSES.index("surprise")),  # published misspellings
    "neutrality": CLASSES.index("neutral"),
}
_NUMBER = re.compile(r"(?:(?:class|cls|label|emotion|expression|category)[\s_.:-]*)?([0-9]+)")


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Labels by name. `given` is the flag's value, "" without a map."""

    given: str = ""
    names: dict[str, int] = dataclasses.field(default_factory=dict)  # by normalized name; a class, or EXCLUDED

    def find(self, name: str, fer2013: bool = False) -> int | None:
        """Returns the class of a folder's name.

        Args:
          name: of the folder.
          fer2013: whether FER-2013's order is proven, so that its numbers count if no map was given.

        Returns:
          An index into fer.labels.CLASSES, EXCLUDED, or None for a name without a class.
        """
        key = _normalize_name(name)
        if key in self.names:
            return self.names[key]
        if fer2013 and not self.numbered and key in _FER2013_NUMBERS:
            return int(key)
        return _find_word(key)

    @property
    def numbered(self) -> bool:
        """True if the map contains numbers."""
        return any(map(_is_digits, self.names))

    def number_labels(self) -> dict[str, int]:
        """Returns the label of each number that is valid in the column `emotion` of a table."""
        if not self.numbered:
            return {str(label): label for label in range(len(CLASSES))}
        return {name: label for name, label in self.names.items() if _is_digits(name)}

    def cell_labels(self) -> dict[bytes, int]:
        """Returns the label of each value that is valid in the column `emotion` of a table, in lower case."""
        words = _WORDS if self.given else {}
        return {name.encode(): label for name, label in {**self.number_labels(), **words, **self.names}.items()}

    def advice(self, name: str) -> str:
        """Returns advice for a name without a class."""
        chosen, excluded = (
            f"--label_map={shlex.quote(','.join(filter(None, [self.given, f'{name}={value}'])))}"
            for value in ("angry", _NONE)
        )
        return (
            f"{', '.join(CLASSES)} and their nouns are: map it with {chosen}, or another class, or exclude it with "
            f"{excluded}"
        )


DEFAULT_MAP = LabelMap()  # no map: words, and numbers where FER-2013's order is proven


def class_name(label: int) -> str:
    """Returns the name of a class, or "none" for EXCLUDED."""
    return _NONE if label == EXCLUDED else CLASSES[label]


def is_number(name: str) -> bool:
    """Returns whether a folder's name is a number alone, such as "3", "03" or "class_3"."""
    return _is_digits(_normalize_name(name))


def describe_orders() -> str:
    """Returns the common orders of numbers, for a message."""
    return "; ".join(
        f"{order} {', '.join(f'{number} {name}' for number, name in names.items())}" for order, names in ORDERS.items()
    )


def parse_label_map(text: str) -> LabelMap:
    """Parses the value of the flag `--label_map`.

    Args:
      text: names of `ORDERS`, paths of JSON files and pairs NAME=CLASS, comma-separated; a pair overrides the order or
        file before it. A class is a word such as happy or happiness, or none.

    Raises:
      UserError: an order, a class or a file is unknown or damaged, or a name is mapped twice.
    """
    names: dict[str, int] = {}
    pairs: dict[str, int] = {}
    order = ""
    for item in [text] if _is_json_path(text) else filter(None, map(str.strip, text.split(","))):
        published = re.sub(r"[-_ ]", "", item.lower())
        if published in ORDERS:
            if order:
                raise UserError(f"--label_map={text} names two orders, {order} and {item}: name one.")
            order = published
            names.update({str(number): CLASSES.index(name) for number, name in ORDERS[order].items()})
        elif _is_json_path(item):
            names.update(_read_json(os.path.expanduser(item)))
        elif "=" in item:
            name, _, value = item.rpartition("=")
            _add_name(pairs, name, value, f"--label_map={text}")
        else:
            raise UserError(f"--label_map={text}: {item!r} is not a map; it takes {FLAG_VALUES}.")
    if text and not (names or pairs):
        raise UserError(f"--label_map={text} maps nothing; it takes {FLAG_VALUES}.")
    return LabelMap(manifest_text(text), {**names, **pairs})


def manifest_text(text: str) -> str:
    """Returns the flag's value for the manifest: for a file, its name without folders."""
    return os.path.basename(text) if _is_json_path(text) else text


def _is_json_path(text: str) -> bool:
    """Returns whether the flag's value is the path of a JSON file."""
    if not text.lower().endswith(".json"):
        return False
    return not re.search("[,=]", text) or os.path.isfile(os.path.expanduser(text))


def _read_json(path: str) -> dict[str, int]:
    """Reads {"0": "angry", ...}, or ["angry", ...] in the order of the numbers; null excludes a name.

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
    names: dict[str, int] = {}
    for name, value in pairs:
        _add_name(names, name, _NONE if value is None else value, path)
    return names


def _add_name(names: dict[str, int], name: str, value: Any, where: str) -> None:
    """Adds a name and its label.

    Raises:
      UserError: the name was added before, or the class is unknown.
    """
    key = _normalize_name(name)
    if key in names:
        raise UserError(f"{where} maps {name!r} twice: keep one.")
    label = _find_word(_normalize_name(value)) if isinstance(value, str) else None
    if label is None and not (isinstance(value, str) and value.strip().lower() == _NONE):
        raise UserError(f"{where} maps {name!r} to {value!r}, which is not {', '.join(CLASSES)} or none.")
    names[key] = EXCLUDED if label is None else label


def _is_digits(key: str) -> bool:
    """Returns whether a normalized name is a number."""
    return key.isascii() and key.isdigit()


def _normalize_name(name: str) -> str:
    """Returns a name in lower case; for a number, alone or after a word such as "class_", only its digits."""
    text = name.strip().lower()
    number = _NUMBER.fullmatch(text)
    return (number[1].lstrip("0") or "0") if number else text


def _find_word(key: str) -> int | None:
    """Returns the class of a word, with or without a number or signs at either end: "happy", "3_happy", "happy (3)"."""
    return _WORDS.get(re.sub(r"^[\W\d_]+|[\W\d_]+$", "", key))
