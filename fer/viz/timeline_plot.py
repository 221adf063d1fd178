"""Draws the class probabilities of the faces of a video over time as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer.labels import class_colours
from fer.viz import rendering

MAX_PANELS = 6
LEGEND_COLUMNS = 10


class Timeline(NamedTuple):
    """Probabilities of a track over time."""

    title: str
    times: np.ndarray  # [m] seconds, increasing
    probabilities: np.ndarray  # [m, C], each row sums to 1


def class_timelines(
    timelines: Sequence[Timeline], classes: Sequence[str], title: str, duration_s: float, step_s: float
) -> bytes:
    """Draws a panel of stacked probabilities for each track, below each other on one time axis.

    Args:
      timelines: at most `MAX_PANELS`.
      classes: names of the C classes.
      title: of the figure.
      duration_s: length of the time axis in seconds.
      step_s: time for which the last values of a track are drawn, in seconds.

    Returns:
      A PNG.
    """
    rows = -(-len(classes) // LEGEND_COLUMNS)
    figure = Figure(figsize=(11, 1.3 + 0.25 * rows + 1.4 * max(1, len(timelines))), layout="constrained")
    figure.suptitle(title, fontsize=12, parse_math=False)
    panels = figure.subplots(max(1, len(timelines)), 1, sharex=True, squeeze=False)[:, 0]
    areas = []
    for axes, timeline in zip(panels, timelines):
        times = np.append(timeline.times, timeline.times[-1] + step_s)
        values = np.append(timeline.probabilities, timeline.probabilities[-1:], axis=0)
        areas = axes.stackplot(times, values.T, colors=class_colours(tuple(classes)), linewidth=0)
        axes.set_title(timeline.title, fontsize=10, loc="left", parse_math=False)
    for axes in panels:
        axes.set_xlim(0, max(duration_s + step_s, step_s))
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 0.5, 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("time in s")
    figure.supylabel("probability", fontsize=10)
    if areas:
        names = [name.replace("$", r"\$") for name in classes]
        figure.legend(areas, names, loc="outside lower center", ncols=min(LEGEND_COLUMNS, len(classes)), fontsize=9)
    else:
        panels[0].text(0.5, 0.5, "no face found", ha="center", va="center", transform=panels[0].transAxes)
    return rendering.render_png(figure)
