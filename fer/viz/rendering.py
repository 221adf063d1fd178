"""Renders matplotlib figures as PNG."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MAX_NAME_LENGTH = 12  # characters of a class name beside other text


def shorten_name(name: str) -> str:
    """Shortens the name of a class to `MAX_NAME_LENGTH` characters."""
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 3]}..."


def render_png(figure: Figure, dpi: int = 150, tight: bool = False) -> bytes:
    """Renders a figure with the Agg backend, without a display and without pyplot's global state.

    Args:
      figure: the figure; its canvas is replaced.
      dpi: dots per inch.
      tight: crops or extends the image to what is drawn.

    Returns:
      A PNG. Its bytes depend on the figure alone: no time and no version is recorded in the file.
    """
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, bbox_inches="tight" if tight else None, metadata={"Software": None})
    return file.getvalue()
