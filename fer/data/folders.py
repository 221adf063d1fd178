"""Pictures in class folders: `train/angry/im0.png`, `test/3/PrivateTest_10131363.jpg` and their kin -> faces."""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fer.data.pixels import PIXELS, SIDE
from fer.data.rows import NO_SPLIT, SPLIT_OF_USAGE, TO_LEARN, Block, Reject
from fer.labels import CLASSES, FERPLUS_OF_CLASS

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 64_000_000  # of a picture; one that unpacks to more is refused unread
MOST_BYTES = 256 << 20  # of a picture's file: four for each of its pixels

_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")  # all but the first three are refused
_SPLITS = {
    **dict.fromkeys(("train", "training"), TO_LEARN),
    **dict.fromkeys(("validation", "valid", "val", "publictest"), 1),
    **dict.fromkeys(("test", "testing", "privatetest"), 2),
}
_CLASSES = {
    **{str(label): label for label in range(len(CLASSES))},
    **{name: label for label, name in enumerate(CLASSES)},
    **{name: label for label, name in enumerate(FERPLUS_OF_CLASS)},  # anger, happiness, sadness
    **{"fearful": 2, "disgusted": 1, "surprised": 5},
}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture's file: `name` for messages, `path` below the source with "/" between folders, and its bytes.

    `opened` is what the source itself is called, if it is a folder, and the folder it is in: "two/train".
    """

    name: str
    path: str
    content: bytes
    opened: str = ""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Some consecutive pictures, not yet decoded."""

    pictures: tuple[Picture, ...]


def is_picture(path: str, head: bytes) -> bool:
    """Whether a file is meant as a picture: it begins as one, or is named as one."""
    hidden = path.rpartition("/")[2].startswith(".")  # such as macOS puts beside every file of an archive
    return not hidden and (head.startswith(_MAGICS) or path.lower().endswith(_ENDINGS))


def meaning(path: str, opened: str = "") -> tuple[int | None, int]:
    """What a picture's path says: its label (None: nothing) and its split (or `TO_LEARN` or `NO_SPLIT`).

    The label is the folder it is in. The split is what the file's name begins with, as re-encoded copies of the
    CSV have it (`PublicTest_88305960.jpg`), or else any folder above, the innermost first.

    Args:
      path, opened: those of a `Picture`. The folder that was opened is one of those above. The one that it is in counts
        for pictures that lie in it directly alone, for then it is their class, as in "train/angry". What is further
        out (/home/test) may be called anything.
    """
    *above, folder, file = _parts(path, opened)
    label = _CLASSES.get(folder.strip().lower())
    usage = re.match(r"([a-z]+)_", file.lower())
    if usage and usage[1] in SPLIT_OF_USAGE:
        return label, SPLIT_OF_USAGE[usage[1]]
    named = [_SPLITS[part.strip().lower()] for part in above if part.strip().lower() in _SPLITS]
    return label, named[-1] if named else NO_SPLIT


def _parts(path: str, opened: str) -> list[str]:
    """The names of the folders that speak of a picture, from the outermost, and its own: three or more."""
    outer = opened.split("/")[-1 if "/" in path else -2 :]
    return ["", "", *outer, *path.split("/")]


def parse(pictures: Sequence[Picture]) -> Block:
    """Decodes pictures into faces and rejects, in their order."""
    from PIL import Image  # here, for a process that parses tables starts sooner without it

    faces, labels, splits, rows, rejects = [], [], [], [], []
    resized = recoloured = 0
    for row, picture in enumerate(pictures):
        label, split = meaning(picture.path, picture.opened)
        if label is None:
            folder = _parts(picture.path, picture.opened)[-2]
            reason = f"its folder {folder!r} is no class; {', '.join(CLASSES)} and 0 to {len(CLASSES) - 1} are"
            rejects.append(Reject(picture.name, 0, "", "bad label", reason, b""))
            continue
        try:
            face, was_resized, was_recoloured = decode(picture.content)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = f"it is no picture that can be read ({str(error) or type(error).__name__})"
            rejects.append(Reject(picture.name, 0, "", "bad picture", reason, b""))
            continue
        resized, recoloured = resized + was_resized, recoloured + was_recoloured
        faces.append(face)
        labels.append(label)
        splits.append(split)
        rows.append(row)
    return Block(
        images=np.array(faces, np.uint8).reshape(-1, PIXELS),
        labels=np.array(labels, np.int64),
        splits=np.array(splits, np.int64),
        rows=np.array(rows, np.int64),
        count=len(pictures),
        blank=0,
        rejects=tuple(rejects),
        resized=resized,
        recoloured=recoloured,
    )


def opened(content: bytes) -> Image.Image:
    """A picture whose pixels are not read yet.

    Raises:
      OSError, ValueError, SyntaxError, DecompressionBombError: it is no picture, or too large.
    """
    from PIL import Image, UnidentifiedImageError

    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own limit, which is above ours
        try:
            picture = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
        except UnidentifiedImageError as error:
            raise ValueError("it is neither JPEG nor PNG") from error  # Pillow's words name a place in memory
    if picture.width * picture.height > MOST_PIXELS:
        raise ValueError(f"it has {picture.width} x {picture.height} pixels, more than {MOST_PIXELS:,}")
    return picture


def eight_bits(picture: Image.Image) -> Image.Image:
    """Sixteen bits of grey as their upper eight, for Pillow's own conversion would clip them; others as they are."""
    from PIL import Image

    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def decode(content: bytes) -> tuple[np.ndarray, bool, bool]:
    """A picture's bytes -> a grey face.

    Returns:
      uint8 [48, 48]; whether it had another size; whether it had another form than eight bits of grey.

    Raises:
      OSError, ValueError, SyntaxError, DecompressionBombError: it is no picture, or it is damaged or too large.
    """
    from PIL import Image

    picture = opened(content)
    resized, recoloured = picture.size != (SIDE, SIDE), picture.mode != "L"
    if recoloured:
        picture = eight_bits(picture).convert("L")
    if resized:
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(picture), resized, recoloured
