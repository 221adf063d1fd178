"""The seven classes: their order, names and colours, and their counterparts in FER+."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# The order is FER-2013's own: column `emotion` holds the index.
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

# Side of a face image, which is grey and square, and its number of pixels.
SIDE = 48
PIXELS = SIDE * SIDE

# Okabe and Ito's palette (2008), distinguishable for colour-blind readers; black is added for neutral.
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#0072B2", "#56B4E9", "#000000")

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
