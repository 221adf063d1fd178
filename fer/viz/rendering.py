"""Renders matplotlib figures as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

MAX_NAME_LENGTH = 12  # characters of a class name beside other text
COMPRESSION = 3  # of zlib; half the time of its default 6, and a tenth more bytes
FACE_GAP, TEXT_HEIGHT = 4, 12  # of a face sheet, in pixels of the faces
HEADING = 0.45  # height of its title, in inches
TITLE_LETTER = 0.09  # width of a letter of a title, in inches


def shorten_names(names: Sequence[str]) -> list[str]:
    """Shortens the names of classes to `MAX_NAME_LENGTH` characters; names that differ still differ.

    The end of a long name is cut, or its middle if that leaves two names equal. If that does too, long names begin with
    their number.
    """
    left = MAX_NAME_LENGTH - len("...")
    for end in range(left + 1):
        shortened = [
            name if len(name) <= MAX_NAME_LENGTH else f"{name[: left - end]}...{name[len(name) - end :]}"
            for name in names
        ]
        if len(set(shortened)) == len(set(names)):
            return shortened
    return [
        name if len(name) <= MAX_NAME_LENGTH else f"{number} {name}"[:MAX_NAME_LENGTH]
        for number, name in enumerate(names)
    ]


def truncate(text: str, max_length: int) -> str:
    """Cuts the end of a text of more than `max_length` characters."""
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


def render_png(figure: Figure, dpi: int = 150, tight: bool = False) -> bytes:
    """Renders a figure with the Agg backend, without a display and without pyplot's global state.

    Args:
      figure: the figure; its canvas, resolution and layout engine are replaced.
      dpi: dots per inch.
      tight: crops or extends the image to what is drawn.

    Returns:
      A PNG. Its bytes depend on the figure alone: no time and no version is recorded in the file.
    """
    canvas, file = FigureCanvasAgg(figure), io.BytesIO()
    if tight:
        figure.savefig(file, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
        return file.getvalue()
    figure.set_dpi(dpi)
    layout = figure.get_layout_engine()
    if layout is not None:  # savefig would draw the figure twice: once for its layout, once for its pixels
        layout.execute(figure)
        figure.set_layout_engine("none")
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    pixels.save(file, "PNG", dpi=(dpi, dpi), compress_level=COMPRESSION)
    return file.getvalue()


class _NearestImage(AxesImage):
    """Image [H, W, 3] uint8 in axes that it fills; Pillow enlarges it in a tenth of the time of matplotlib."""

    def make_image(self, renderer, magnification=1.0, unsampled=False):  # type: ignore[no-untyped-def]
        """Returns the pixels, RGBA from the bottom up, and their place in the figure."""
        box = self.get_window_extent(renderer)
        pixels = Image.fromarray(self.get_array()).convert("RGBA")
        enlarged = pixels.resize((round(box.width), round(box.height)), Image.Resampling.NEAREST)
        return np.array(enlarged)[::-1], box.x0, box.y0, None


def plot_face_sheet(
    pictures: np.ndarray, texts: Sequence[str], grid: tuple[int, int], title: str, cell_width: float, fontsize: float
) -> Figure:
    """Plots pictures side by side, each below its text.

    All pictures are one image in one pair of axes: a pair for each adds up to a second to every epoch.

    Args:
      pictures: [n, H, W, 3] uint8.
      texts: n texts of at most two lines.
      grid: numbers of rows and columns, for at least n pictures.
      title: title of the figure.
      cell_width: width of a picture and the gap beside it, in inches.
      fontsize: of the texts, in points.
    """
    rows, columns = grid
    count, side, width = pictures.shape[:3]
    cell = TEXT_HEIGHT + side + FACE_GAP, FACE_GAP + width
    sheet = np.full((rows * columns, *cell, 3), 255, np.uint8)
    sheet[:count, TEXT_HEIGHT : TEXT_HEIGHT + side, FACE_GAP // 2 : FACE_GAP // 2 + width] = pictures
    sheet = sheet.reshape(rows, columns, *cell, 3).swapaxes(1, 2).reshape(rows * cell[0], columns * cell[1], 3)
    height, needed = rows * cell[0] * cell_width / cell[1], columns * cell_width
    figure = Figure(figsize=(max(TITLE_LETTER * len(title), needed), height + HEADING))
    figure.suptitle(title, y=1 - 0.4 * HEADING / (height + HEADING), fontsize=12, parse_math=False)
    share = needed / figure.get_figwidth()
    axes = figure.add_axes(((1 - share) / 2, 0, share, height / (height + HEADING)))
    axes.set_axis_off()
    axes.set(xlim=(0, sheet.shape[1]), ylim=(sheet.shape[0], 0))
    axes.add_image(_NearestImage(axes, extent=(0, sheet.shape[1], sheet.shape[0], 0), data=sheet))
    for place, text in enumerate(texts):
        row, column = divmod(place, columns)
        x, y = (column + 0.5) * cell[1], row * cell[0] + TEXT_HEIGHT - 1
        axes.text(x, y, text, ha="center", va="bottom", fontsize=fontsize, parse_math=False)
    return figure
