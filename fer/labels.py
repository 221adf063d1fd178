"""Sets of classes: names in label order, the check of a user's own names, and colours; FER+ and its votes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# The classes of FER-2013, which are the default. The order is its own: column `emotion` holds the index.
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

# The built-in sets: names as published, in the published order of the labels.
CLASS_SETS = {
    "fer2013": CLASSES,  # Goodfellow et al. 2013, arXiv:1307.0414
    # Barsoum et al. 2016, arXiv:1608.01041: the first eight columns of fer2013new.csv
    "ferplus": ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    # Mollahosseini et al. 2017, arXiv:1708.03985
    "affectnet7": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger"),
    "affectnet8": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt"),
    # Li et al. 2017 (CVPR), whose numbers begin at 1
    "rafdb": ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
}

MIN_CLASSES, MAX_CLASSES = 2, 100
MAX_NAME_LENGTH = 40  # characters of a class name
MAX_IN_ROW, MAX_ROW_LENGTH = 10, 90  # classes, and characters of their names, that fit beside each other

# The meaning of words: the class of FER-2013, or contempt. Data sets use nouns or adjectives for the same expression.
EMOTION_OF_WORD = {
    **{name: name for name in (*CLASSES, "contempt")},
    **dict.fromkeys(("anger",), "angry"),
    **dict.fromkeys(("disgusted", "disgusting"), "disgust"),
    **dict.fromkeys(("fearful", "afraid", "scared"), "fear"),
    **dict.fromkeys(("happiness", "joy", "joyful"), "happy"),
    **dict.fromkeys(("sadness",), "sad"),
    **dict.fromkeys(("surprised", "suprise", "suprised"), "surprise"),  # published misspellings
    "neutrality": "neutral",
    "contemptuous": "contempt",
}

_FORBIDDEN = ',;=/\\"$|'  # separators of flags, files and TensorBoard's tags, and Matplotlib's formulas
# Words with another meaning where names of classes stand: in --label_map, in tables, and as columns of predictions.
_RESERVED = {
    *("none", "unlabelled", "folders"),
    *("id", "row", "label", "name", "left", "top", "width", "height", "time", "frame", "track"),
}

# Side of a face image, which is grey and square, and its number of pixels.
SIDE = 48
PIXELS = SIDE * SIDE

# Okabe and Ito's palette (2008), distinguishable for colour-blind readers; black is added for neutral.
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2", "#56B4E9", "#000000")
_CONTEMPT_COLOUR = "#F0E442"  # yellow, the eighth colour of the palette
MIN_LIGHTNESS, MAX_LIGHTNESS = 0.35, 0.92  # of colours beyond the palette, in OKLab, where black is 0 and white 1

# The columns of Microsoft's fer2013new.csv that hold votes, in its order (Barsoum et al. 2016, arXiv:1608.01041).
FERPLUS_COLUMNS = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)

# The FER+ column that votes for each class, in the order of CLASSES.
FERPLUS_OF_CLASS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


def majority_class(counts: np.ndarray) -> np.ndarray:
    """Returns the class with the most votes in FER+.

    Source of the votes and of the majority rule: Barsoum et al. 2016 (arXiv:1608.01041).

    Args:
      counts: [n, 10] integers in the order of `FERPLUS_COLUMNS`; a row without votes has no value above 0.

    Returns:
      [n] int32: an index into `CLASSES`, or -1 if a row has no votes, if two columns share the most votes, or if most
      votes are for contempt, unknown or not a face.
    """
    import numpy as np

    most = counts.max(axis=1, keepdims=True)
    single = (counts == most).sum(axis=1) == 1  # a row without votes is a tie of all ten columns
    classes = [FERPLUS_OF_CLASS.index(name) if name in FERPLUS_OF_CLASS else -1 for name in FERPLUS_COLUMNS]
    return np.where(single, np.array(classes)[counts.argmax(axis=1)], -1).astype(np.int32)


def check_classes(names: Iterable[object]) -> tuple[str, ...]:
    """Checks the names of the classes of a data set.

    Args:
      names: in label order.

    Returns:
      The names without blanks at their ends.

    Raises:
      ValueError: there are fewer than `MIN_CLASSES` or more than `MAX_CLASSES` names; two are equal apart from case; or
        a name is not text, empty, too long, reserved, or has a character that is not allowed. The message, for the
        user, names it.
    """
    checked = tuple(map(_check_name, names))
    if not MIN_CLASSES <= len(checked) <= MAX_CLASSES:
        raise ValueError(f"There are {len(checked)} classes; {MIN_CLASSES} to {MAX_CLASSES} are supported.")
    known: set[str] = set()
    for name in checked:
        if name.casefold() in known:
            raise ValueError(f"The class {name!r} is there twice: name each class once, in any case of letters.")
        known.add(name.casefold())
    return checked


def fit_in_row(classes: Sequence[str]) -> bool:
    """Returns whether the names of classes fit beside each other in a table or a plot."""
    return len(classes) <= MAX_IN_ROW and sum(map(len, classes)) <= MAX_ROW_LENGTH


def _check_name(name: object) -> str:
    """Returns the name of a class without blanks at its ends.

    Raises:
      ValueError: see `check_classes`.
    """
    text = name.strip() if isinstance(name, str) else ""
    if not text:
        raise ValueError(f"{name!r} is no name of a class: a name is text and is not empty.")
    if len(text) > MAX_NAME_LENGTH:
        raise ValueError(f"The class {text[:MAX_NAME_LENGTH]!r}... has more than {MAX_NAME_LENGTH} characters.")
    wrong = next((character for character in text if character in _FORBIDDEN or not character.isprintable()), None)
    if wrong is not None:
        raise ValueError(f"The class {text!r} has the character {wrong!r}, which names of classes may not have.")
    if not text[0].isalnum():
        raise ValueError(f"The class {text!r} must begin with a letter or a digit.")
    if text.casefold() in _RESERVED:
        raise ValueError(f"The class {text!r} has a reserved name: choose another one.")
    return text


@functools.lru_cache
def class_colours(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Returns a colour for each class, distinct and the same in every plot.

    An expression of FER-2013 has its colour of `COLOURS` under any of its names, and contempt the yellow of the same
    palette. Other classes take the colours of the palette that are left, in its order, and then those of a greedy
    search (Glasbey et al. 2007, doi:10.1002/col.20327): each is as far as possible from all earlier ones in the
    perceptual colour space OKLab (Ottosson 2020), neither too dark nor too light for black or white surroundings.

    Args:
      classes: names in label order, each once.

    Returns:
      "#RRGGBB" for each class.
    """
    of_emotion = {**dict(zip(CLASSES, COLOURS)), "contempt": _CONTEMPT_COLOUR}
    found: dict[str, str] = {}
    for name in classes:
        colour = of_emotion.get(EMOTION_OF_WORD.get(name.casefold(), ""))
        if colour is not None and colour not in found.values():
            found[name] = colour
    palette = [colour for colour in (*COLOURS, _CONTEMPT_COLOUR) if colour not in found.values()]
    others = [name for name in classes if name not in found]
    more = _distant_colours((*COLOURS, _CONTEMPT_COLOUR), len(others) - len(palette))
    found.update(zip(others, [*palette, *more]))
    return tuple(found[name] for name in classes)


def _distant_colours(chosen: Sequence[str], count: int) -> list[str]:
    """Returns `count` colours far from `chosen` and from each other; [] if `count` is below 1."""
    import numpy as np

    levels = np.linspace(0, 255, 18).round()
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lightness = _oklab(grid)[:, 0]
    grid = grid[(lightness > MIN_LIGHTNESS) & (lightness < MAX_LIGHTNESS)]
    places, colours = _oklab(grid), []
    known = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in chosen], float)
    distances = np.linalg.norm(places[:, None] - _oklab(known)[None], axis=-1).min(axis=1)
    for _ in range(count):
        best = int(distances.argmax())
        colours.append("#" + "".join(f"{int(level):02X}" for level in grid[best]))
        distances = np.minimum(distances, np.linalg.norm(places - places[best], axis=-1))
    return colours


def _oklab(colours: np.ndarray) -> np.ndarray:
    """Returns the OKLab coordinates, [n, 3], of sRGB colours, [n, 3] in [0, 255] (Ottosson 2020)."""
    import numpy as np

    scaled = colours / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.array(to_cones).T) @ np.array(to_lab).T
