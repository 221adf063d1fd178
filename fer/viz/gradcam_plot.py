"""Faces beside what the network looked at, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer.labels import CLASSES
from fer.viz.plots import png

HEAT = "inferno"  # rises evenly in lightness, so that colour-blind readers see the same order


def gradcam(
    chosen: Sequence[tuple[int | None, int | None]],
    images: np.ndarray,
    maps: dict[int, np.ndarray],
    probabilities: np.ndarray,
    title: str,
) -> bytes:
    """Draws two faces a class, one recognised and one mistaken, each above its map.

    Args:
      chosen: as `fer.viz.gradcam.pick_examples` gives them.
      images: [n, 48, 48, 1] uint8.
      maps: by position in `images`, the map [48, 48] in [0, 1] of the class that was predicted.
      probabilities: [n, 7].
      title: a line above.

    Returns:
      A PNG. It holds faces of the data: do not publish it where these may not be.
    """
    figure = Figure(figsize=(12.6, 8.0), layout="constrained")
    figure.suptitle(
        f"{title}: what spoke for the predicted class (Grad-CAM; bright: much)", fontsize=12, parse_math=False
    )
    cells = figure.subplots(4, len(CLASSES))
    for axes in cells.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    for column, (name, pair) in enumerate(zip(CLASSES, chosen)):
        for kind, position in enumerate(pair):
            above, below = cells[2 * kind : 2 * kind + 2, column]
            if position is None:
                above.set_title(f"{name}\nnone {('recognised', 'mistaken')[kind]}", fontsize=10)
                continue
            taken, confidence = CLASSES[probabilities[position].argmax()], probabilities[position].max()
            said = f"{name}\n" + ("recognised" if kind == 0 else f"taken for {taken}") + f" ({100 * confidence:.0f} %)"
            above.set_title(said, fontsize=10)
            _face(above, images[position])
            _face(below, images[position])
            below.imshow(maps[position], cmap=HEAT, vmin=0, vmax=1, alpha=0.6)
    return png(figure)


def _face(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image[:, :, 0], cmap="gray", vmin=0, vmax=255)
