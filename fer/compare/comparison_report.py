"""Writes a comparison as JSON, Markdown, a plot and one HTML page that needs no network."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from typing import Any

from fer import escaping
from fer.evaluation.metrics import significance
from fer.html_page import build_html_page, data_uri, read_resource
from fer.io import files
from fer.viz.comparison_plot import accuracy_by_parameters

HEADER = (
    "Method", "Comparable", "Accuracy % (95 % CI)", "Macro F1", "Measured on", "TTA", "Models", "Parameters",
    "Images/s", "Selected on", "Extra faces", "Remarks", "Source",
)  # fmt: skip
PAIR_HEADER = ("First", "Second", "Only first correct", "Only second correct", "McNemar p", "Corrected p", "Result")
EXTRA_DATA = {True: "possible", False: "no", None: "-"}  # eval.json does not record the data of initial weights
CAPTION = "Our runs (blue), other packages measured on the same faces (orange), published results"
NOTE = (
    "Comparable: measured on FER-2013's PrivateTest, and not known to be selected on it or trained on faces of other "
    "data sets. In FER-2013, validation is PublicTest and test is PrivateTest. CI: Wilson's confidence interval; on "
    "3,589 faces, two results less than about 2 points apart need a paired test. Dash: not stated by the source. Other "
    "packages were measured on the same faces as ours, without their face detectors. Images/s: on the machine of the "
    "measurement."
)
NOTE_ON_OWN_CLASSES = (
    "Published results and the column Comparable are for the classes of FER-2013. CI: Wilson's confidence interval; "
    "small differences need a paired test. Images/s: on the machine of the measurement."
)
NO_PAIRS = "Paired tests need at least two runs, or one run and a baseline."
PAIRS_NOTE = (
    "McNemar's exact test on the faces that only one of the two classifies correctly; p corrected by Holm for all "
    "pairs. A difference is significant where the corrected p is below 0.05."
)


def build_markdown(comparison: dict[str, Any]) -> str:
    """Builds the Markdown tables of results and of paired tests."""
    escaped = escaping.escape_markdown
    rows = [["**" + escaped(row[0]) + "**", *map(escaped, row[1:])] for row in map(_run_cells, comparison["runs"])]
    rows += [list(map(escaped, row)) for row in map(_baseline_cells, comparison["baselines"])]
    rows += [list(map(escaped, _published_cells(result))) for result in comparison["published"]]
    pairs = [list(map(escaped, row)) for row in map(_pair_cells, comparison["pairs"])]
    return "\n".join(
        [
            "# Comparison",
            "",
            "![Accuracy against parameters](comparison.png)",
            "",
            *escaping.markdown_table(HEADER, rows),
            "",
            _note(comparison),
            "",
            "## Paired tests",
            "",
            *([PAIRS_NOTE, "", *escaping.markdown_table(PAIR_HEADER, pairs)] if pairs else [NO_PAIRS]),
            "",
        ]
    )


def build_page(comparison: dict[str, Any], plot: bytes) -> str:
    """Builds one HTML page with the tables and the plot, a PNG."""
    rows = [("ours", _run_cells(run)) for run in comparison["runs"]]
    rows += [("baselines", _baseline_cells(baseline)) for baseline in comparison["baselines"]]
    rows += [("" if result["comparable"] else "apart", _published_cells(result)) for result in comparison["published"]]
    body = "\n".join(f'<tr class="{kind}">{_cells(HEADER, row)}</tr>' for kind, row in rows)
    pairs = "\n".join(f"<tr>{_cells(PAIR_HEADER, _pair_cells(pair))}</tr>" for pair in comparison["pairs"])
    head, pair_head = ("".join(f"<th>{html.escape(name)}</th>" for name in names) for names in (HEADER, PAIR_HEADER))
    tested = f"""<p>{html.escape(PAIRS_NOTE)}</p>
<table><thead><tr>{pair_head}</tr></thead>
<tbody>
{pairs}
</tbody></table>"""
    caption = CAPTION if comparison["published"] else "Our runs"
    content = f"""<h1>Comparison</h1>
<div class="scroll"><img alt="Accuracy against parameters" src="{data_uri(plot, "image/png")}"></div>
<div class="scroll"><table class="all">
<caption>{caption}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody></table></div>
<p>{html.escape(_note(comparison))}</p>
<h2>Paired tests</h2>
{tested if comparison["pairs"] else f"<p>{NO_PAIRS}</p>"}"""
    return build_html_page("Comparison", read_resource("fer.compare", "comparison.css"), content)


def write(comparison: dict[str, Any], output: str) -> list[str]:
    """Writes comparison.png, .md, .html and, last, .json into the folder `output` and returns their paths.

    Raises:
      UserError: a file cannot be written.
    """
    plot = accuracy_by_parameters(comparison["runs"], comparison["baselines"], comparison["published"])
    path = {kind: os.path.join(output, f"comparison.{kind}") for kind in ("json", "md", "html", "png")}
    files.write_bytes(path["png"], plot)
    files.write_text(path["md"], build_markdown(comparison))
    files.write_text(path["html"], build_page(comparison, plot))
    files.write_json(path["json"], comparison)
    return list(path.values())


def summary_line(result: dict[str, Any]) -> str:
    """Describes a run or a baseline in one line."""
    if result["accuracy"] is None:
        return f"{result['method']}: {result['remark']}"
    low, high = (100 * bound for bound in result["accuracy_ci95"])
    accuracy = f"{100 * result['accuracy']:.2f} % (95 % CI {low:.2f}-{high:.2f})"
    return f"{result['method']}: {accuracy} on {result['split']}, {result['images_per_second']:.0f} images/s"


def _note(comparison: dict[str, Any]) -> str:
    return NOTE if comparison["published"] else NOTE_ON_OWN_CLASSES


def _run_cells(run: dict[str, Any]) -> list[str]:
    return [
        run["method"],
        _yes_or_no(run["comparable"]),
        _accuracy(run),
        f"{run['macro_f1']:.4f}",
        f"{run['data']}, {run['split']}",
        run["tta"],
        str(run["members"]),
        f"{run['parameters']:,}",
        f"{run['images_per_second']:.0f}",
        run["selected_on"],
        EXTRA_DATA[run["extra_data"]],
        run["remark"],
        run["source"],
    ]


def _baseline_cells(baseline: dict[str, Any]) -> list[str]:
    measured = baseline["accuracy"] is not None
    return [
        baseline["method"],
        _yes_or_no(baseline["comparable"]) if measured else "-",
        _accuracy(baseline) if measured else "-",
        f"{baseline['macro_f1']:.4f}" if measured else "-",
        f"{baseline['data']}, {baseline['split']}",
        baseline["tta"],
        str(baseline["members"]),
        f"{baseline['parameters']:,}" if measured else "-",
        f"{baseline['images_per_second']:.0f}" if measured else "-",
        "-",
        "-",
        baseline["remark"],
        baseline["source"],
    ]


def _published_cells(result: dict[str, Any]) -> list[str]:
    return [
        result["method"] + (f", {result['year']}" if result["year"] else ""),
        _yes_or_no(result["comparable"]),
        _accuracy(result),
        "-",
        f"FER-2013, {result['split']}",
        _stated(result["tta"]),
        _stated(result["members"]),
        f"{result['parameters']:,}" if result["parameters"] else "-",
        "-",
        _stated(result["selected_on"]),
        {**EXTRA_DATA, True: "yes"}[result["extra_data"]],
        result["remark"],
        result["source"],
    ]


def _pair_cells(pair: dict[str, Any]) -> list[str]:
    if pair["not_compared"]:
        return [pair["first"], pair["second"], "-", "-", "-", "-", f"not compared: {pair['not_compared']}"]
    counts = f"{pair['only_first']:,}", f"{pair['only_second']:,}"
    result = "no significant difference"
    if pair["p_corrected"] < significance.LEVEL:
        better = pair["first"] if pair["only_first"] > pair["only_second"] else pair["second"]
        result = f"{better} is better"
    return [pair["first"], pair["second"], *counts, f"{pair['p']:.2g}", f"{pair['p_corrected']:.2g}", result]


def _accuracy(result: dict[str, Any]) -> str:
    bounds = result["accuracy_ci95"]
    return f"{100 * result['accuracy']:.2f}" + (f" ({100 * bounds[0]:.1f}-{100 * bounds[1]:.1f})" if bounds else "")


def _yes_or_no(comparable: bool) -> str:
    return "yes" if comparable else "no"


def _stated(value: Any) -> str:
    return "-" if value is None else str(value)


def _cells(head: Sequence[str], texts: Sequence[str]) -> str:
    """Returns the cells of a row; narrow screens show each with the name of its column, and leave out dashes."""
    return "".join(
        f'<td data-name="{html.escape(name)}"{" class=empty" if text == "-" else ""}>{html.escape(text)}</td>'
        for name, text in zip(head, texts)
    )
