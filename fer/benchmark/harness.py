"""Measured figures: medians with their spread, ratios within one run, as JSON and as a plot."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from matplotlib.figure import Figure

import fer
from fer.io import files
from fer.viz import rendering

ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Result:
    """One figure."""

    suite: str
    name: str
    value: float  # the median over rounds
    unit: str
    low: float  # over rounds
    high: float
    baseline: str | None = None  # the name of the rival in the same suite
    ratio: float | None = None  # the median over rounds of this figure over the rival's in the same round


def run_interleaved(
    suite: str,
    unit: str,
    contestants: Mapping[str, Callable[[], int]],
    baseline: str,
    rounds: int = ROUNDS,
    beside: Sequence[tuple[str, str]] = (),
) -> list[Result]:
    """Measures contestants in turn, round after round, so that a busy machine slows all of them alike.

    Args:
      suite: their suite.
      unit: of the figures, such as "rows/s".
      contestants: by name; each does its work once and returns how many items it did.
      baseline: the name of the one that the others are compared with.
      rounds: at least 5 for a figure to report.
      beside: further pairs of contestants; the first of each is told once more, compared with the second.
    """
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            started = time.perf_counter()
            items = work()
            rates[name].append(items / (time.perf_counter() - started))
    results = [_summary(suite, unit, name, name, rates, None if name == baseline else baseline) for name in rates]
    return results + [_summary(suite, unit, f"{name}, beside {rival}", name, rates, rival) for name, rival in beside]


def _summary(
    suite: str, unit: str, title: str, name: str, rates: Mapping[str, Sequence[float]], rival: str | None
) -> Result:
    """The median over rounds, and the median of its ratios to the rival's, each of one round."""
    values = rates[name]
    low, middle, high = (round(figure, 1) for figure in (min(values), statistics.median(values), max(values)))
    if rival is None:
        return Result(suite, title, middle, unit, low, high)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(values, rates[rival]))
    return Result(suite, title, middle, unit, low, high, rival, round(ratio, 3))


def write(path: str, results: Sequence[Result]) -> list[str]:
    """Writes the figures to `path` (JSON) and a plot beside it. Returns both paths."""
    machine = {"processor": _processor(), "cores": os.cpu_count(), "gpus": len(tf.config.list_physical_devices("GPU"))}
    versions = {"fer": fer.__version__, "python": platform.python_version(), "tensorflow": tf.__version__}
    content: dict[str, Any] = {
        "machine": machine,
        "versions": versions,
        "results": [dataclasses.asdict(result) for result in results],
    }
    picture = os.path.splitext(path)[0] + ".png"
    files.write_bytes(picture, plot(results))
    files.write_json(path, content)
    return [path, picture]


def table(results: Sequence[Result]) -> str:
    """The figures as lines of text."""
    width = max([len(result.name) for result in results], default=0)
    lines = [f"{'suite':10} {'what':{width}} {'median':>12} {'low':>12} {'high':>12}  unit"]
    for result in results:
        ratio = f"  ({result.ratio:.2f} x {result.baseline})" if result.ratio is not None else ""
        figures = f"{result.value:12,.1f} {result.low:12,.1f} {result.high:12,.1f}"
        lines.append(f"{result.suite:10} {result.name:{width}} {figures}  {result.unit}{ratio}")
    return "\n".join(lines)


def plot(results: Sequence[Result]) -> bytes:
    """Bars with the spread over rounds, a panel for each suite and unit, as PNG; grey is what has no baseline."""
    panels: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        panels.setdefault((result.suite, result.unit), []).append(result)
    heights = [len(members) for members in panels.values()]
    figure = Figure(figsize=(9, 0.9 * len(panels) + 0.4 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": [1 + n for n in heights]})
    for panel, ((suite, unit), members) in zip(axes[:, 0], panels.items()):
        values = [result.value for result in members]
        spread = [[r.value - r.low for r in members], [r.high - r.value for r in members]]
        colours = ["#0072B2" if result.baseline else "#999999" for result in members]
        panel.barh(range(len(members)), values, xerr=spread, color=colours, capsize=3)
        panel.set_yticks(range(len(members)), [result.name for result in members])
        panel.set_xlim(0, max(result.high for result in members) * 1.35)
        panel.set_ylim(len(members) - 0.4, -0.6)
        panel.locator_params(axis="x", nbins=5)
        panel.xaxis.set_major_formatter("{x:,.0f}")
        for place, result in enumerate(members):
            ratio = f"  {result.value:,.0f}" + (f"  ({result.ratio:.2f} x)" if result.ratio is not None else "")
            panel.annotate(ratio, (result.high, place), va="center", fontsize=9)
        panel.set_title(f"{suite}: {unit}", loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    return rendering.render_png(figure, dpi=120)


def _processor() -> str:
    """What the system calls it; platform.processor() is empty on many Linuxes."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
