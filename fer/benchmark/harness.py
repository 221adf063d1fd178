"""Measures candidates in interleaved rounds and writes medians, spread and ratios as JSON and as a plot."""

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

from fer import progress
from fer.io import files
from fer.run_dir import software_versions
from fer.viz import rendering

ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Result:
    """One measured value."""

    suite: str
    name: str
    value: float  # median over rounds
    unit: str
    low: float  # minimum over rounds
    high: float  # maximum over rounds
    baseline: str | None = None  # name of the result that this one is compared with
    ratio: float | None = None  # median over rounds of this value / that of the baseline in the same round
    ratio_low: float | None = None  # minimum over rounds
    ratio_high: float | None = None  # maximum over rounds


def run_interleaved(
    suite: str,
    unit: str,
    candidates: Mapping[str, Callable[[], int]],
    baseline: str,
    rounds: int = ROUNDS,
    pairs: Sequence[tuple[str, str]] = (),
) -> list[Result]:
    """Measures the throughput of candidates in interleaved rounds, so that other load slows all of them alike.

    Prints a line before each measurement, and repeats it while the measurement is slow.

    Args:
      suite: the name of the suite.
      unit: the unit of the results, such as "rows/s".
      candidates: functions by name; each does its work once and returns the number of items processed.
      baseline: the name of the candidate that the others are compared with.
      rounds: the number of measurements of each candidate; use at least 5 for a result to report.
      pairs: further comparisons (candidate, baseline); each adds a result named "CANDIDATE, beside BASELINE".

    Returns:
      A result for each candidate, in order, then one for each of `pairs`.
    """
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(1, rounds + 1):
        for name, work in candidates.items():
            with progress.stage(f"{suite}: round {number} of {rounds}: {name}"):
                started = time.perf_counter()
                items = work()
                rates[name].append(items / (time.perf_counter() - started))
    results = [_summarize(suite, unit, name, name, rates, None if name == baseline else baseline) for name in rates]
    return results + [_summarize(suite, unit, f"{name}, beside {other}", name, rates, other) for name, other in pairs]


def _summarize(
    suite: str, unit: str, title: str, name: str, rates: Mapping[str, Sequence[float]], baseline: str | None
) -> Result:
    """Returns the median over rounds, and the median over rounds of the ratio to the baseline."""
    values = rates[name]
    low, middle, high = (round(figure, 1) for figure in (min(values), statistics.median(values), max(values)))
    if baseline is None:
        return Result(suite, title, middle, unit, low, high)
    ratios = [ours / theirs for ours, theirs in zip(values, rates[baseline])]
    spread = (round(figure, 3) for figure in (statistics.median(ratios), min(ratios), max(ratios)))
    return Result(suite, title, middle, unit, low, high, baseline, *spread)


def write_results(path: str, results: Sequence[Result]) -> list[str]:
    """Writes the results to `path` (JSON) and a plot next to it, with the suffix .png. Returns the paths.

    There is no plot if all results are cells of tables (`fill_docs`).
    """
    machine = {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "gpus": len(tf.config.list_physical_devices("GPU")),
    }
    content: dict[str, Any] = {
        "machine": machine,
        "versions": software_versions(),
        "results": [dataclasses.asdict(result) for result in results],
    }
    picture = os.path.splitext(path)[0] + ".png"
    plotted = not all(map(_is_table_cell, results))
    if plotted:
        files.write_bytes(picture, plot_results(results))
    files.write_json(path, content)
    return [path, picture] if plotted else [path]


def format_table(results: Sequence[Result]) -> str:
    """Returns a text table of the results."""
    width = max([len(result.name) for result in results], default=0)
    lines = [f"{'suite':10} {'name':{width}} {'median':>12} {'low':>12} {'high':>12}  unit"]
    for result in results:
        ratio = f"  ({result.ratio:.2f} x {result.baseline})" if result.ratio is not None else ""
        figures = f"{result.value:12,.1f} {result.low:12,.1f} {result.high:12,.1f}"
        lines.append(f"{result.suite:10} {result.name:{width}} {figures}  {result.unit}{ratio}")
    return "\n".join(lines)


def _is_table_cell(result: Result) -> bool:
    return result.name.count(": ") == 2


def plot_results(results: Sequence[Result]) -> bytes:
    """Draws a bar chart for each suite and unit, with the range over rounds; results without a baseline are grey.

    Results named "TABLE: ROW: COLUMN" are left out; `fill_docs` makes tables of them.

    Returns:
      The bytes of a PNG file.
    """
    panels: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if not _is_table_cell(result):
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
        panel.set_xlim(0, max(result.high for result in members) * 1.5)  # space for the labels
        panel.set_ylim(len(members) - 0.4, -0.6)
        panel.locator_params(axis="x", nbins=5)
        panel.xaxis.set_major_formatter("{x:,.0f}")
        for place, result in enumerate(members):
            ratio = f"  {result.value:,.0f}" + (f"  ({result.ratio:.2f} x)" if result.ratio is not None else "")
            panel.annotate(ratio, (result.high, place), va="center", fontsize=9)
        panel.set_title(f"{suite}: {unit}", loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    return rendering.render_png(figure, dpi=120)


def _processor_name() -> str:
    """Returns the model name of the CPU from /proc/cpuinfo; platform.processor() is empty on many Linux systems."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
