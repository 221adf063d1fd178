"""A comparison as Markdown and as one HTML page without network, and all its files."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from typing import Any

from fer import escaping, files
from fer.evaluation.comparison_plot import accuracy_by_parameters

HEADER = (
    "Method", "Accuracy %", "95 %", "Macro F1", "Data, split", "Test-time views", "Models", "Parameters", "Images/s",
    "Chosen on", "Extra faces", "Year", "Comparable, remarks", "Source",
)  # fmt: skip
EXTRA = {True: "may be", False: "no", None: "-"}  # of ours: nobody knows here what given weights have seen
NOTE = (
    "In FER-2013, validation is PublicTest and test is PrivateTest. Intervals are Wilson's; they do not tell apart two "
    "results of 3,589 examples that are less than about 2 points apart. A dash: the source does not tell. "
    "Peers are other people's packages that were run on the same faces as ours, without their face detectors; images a "
    "second are those of the machine that measured."
)
STYLE = """
:root { color-scheme: light dark; --line: #8884; --ours: #0072b233; --peers: #d55e0026; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
.wide { overflow-x: auto; } img { max-width: 100%; height: auto; background: white; }
@media (max-width: 40rem) { img { max-width: none; width: 60rem; } }
table { border-collapse: collapse; font-size: 13px; } caption { text-align: left; font-weight: bold; padding: .5rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; vertical-align: top; }
td:nth-child(2) { font-weight: bold; } tr.ours { background: var(--ours); } tr.peers { background: var(--peers); }
tr.apart td { opacity: .75; } td:nth-child(3) { white-space: nowrap; }
td:nth-child(n + 13), li { overflow-wrap: anywhere; } td:nth-child(n + 13) { min-width: 19rem; }
"""


def markdown(comparison: dict[str, Any]) -> str:
    """The tables and the pairs' sentences."""
    escaped = escaping.markdown
    rows = [["**" + escaped(row[0]) + "**", *map(escaped, row[1:])] for row in map(_ours, comparison["runs"])]
    rows += [list(map(escaped, row)) for row in map(_peers, comparison["peers"])]
    rows += [list(map(escaped, _theirs(result))) for result in comparison["published"]]
    table = [HEADER, ["---"] * len(HEADER), *rows]
    return "\n".join(
        [
            "# Comparison",
            "",
            "![Accuracy against parameters](comparison.png)",
            "",
            *("| " + " | ".join(row) + " |" for row in table),
            "",
            NOTE,
            "",
            "## In pairs",
            "",
            *(f"- {escaped(sentence)}" for sentence in _sentences(comparison)),
            "",
        ]
    )


def page(comparison: dict[str, Any], picture: bytes) -> str:
    """One HTML page that holds everything, the picture too."""
    rows = [("ours", _ours(run)) for run in comparison["runs"]]
    rows += [("peers", _peers(peer)) for peer in comparison["peers"]]
    rows += [("" if result["comparable"] else "apart", _theirs(result)) for result in comparison["published"]]
    body = "\n".join(f'<tr class="{kind}">{_cells("td", row)}</tr>' for kind, row in rows)
    sentences = "\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in _sentences(comparison))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Comparison</title><style>{STYLE}</style></head><body>
<h1>Comparison</h1>
<div class="wide"><img alt="Accuracy against parameters"
 src="data:image/png;base64,{base64.b64encode(picture).decode()}"></div>
<div class="wide"><table><caption>Ours (blue), peers measured on the same faces (orange), and published</caption>
<thead><tr>{_cells("th", HEADER)}</tr></thead>
<tbody>
{body}
</tbody></table></div>
<p>{html.escape(NOTE)}</p>
<h2>In pairs</h2>
<ul>
{sentences}
</ul>
</body></html>
"""


def write(comparison: dict[str, Any], output: str) -> list[str]:
    """Writes comparison.png, .md, .html and, last, .json into the folder `output`. Returns their paths.

    Raises:
      UserError: a file cannot be written.
    """
    picture = accuracy_by_parameters(comparison["runs"], comparison["peers"], comparison["published"])
    path = {kind: os.path.join(output, f"comparison.{kind}") for kind in ("json", "md", "html", "png")}
    files.write_bytes(path["png"], picture)
    files.write_text(path["md"], markdown(comparison))
    files.write_text(path["html"], page(comparison, picture))
    files.write_json(path["json"], comparison)
    return list(path.values())


def line(result: dict[str, Any]) -> str:
    """A run or a peer in one line."""
    if result["accuracy"] is None:
        return f"{result['method']}: {result['remark']}"
    low, high = (100 * bound for bound in result["accuracy_ci95"])
    accuracy = f"{100 * result['accuracy']:.2f} % (95 %: {low:.2f} to {high:.2f})"
    return f"{result['method']}: {accuracy} on {result['split']}, {result['images_per_second']:.0f} images/s"


def _ours(run: dict[str, Any]) -> list[str]:
    return [
        run["method"],
        f"{100 * run['accuracy']:.2f}",
        _interval(run),
        f"{run['macro_f1']:.4f}",
        f"{run['data']}, {run['split']}",
        run["tta"],
        str(run["members"]),
        f"{run['parameters']:,}",
        f"{run['images_per_second']:.0f}",
        run["selected_on"],
        EXTRA[run["extra_data"]],
        "-",
        ("" if run["comparable"] else "not comparable: ") + run["remark"],
        run["source"],
    ]


def _peers(peer: dict[str, Any]) -> list[str]:
    measured = peer["accuracy"] is not None
    return [
        peer["method"],
        f"{100 * peer['accuracy']:.2f}" if measured else "-",
        _interval(peer),
        f"{peer['macro_f1']:.4f}" if measured else "-",
        f"{peer['data']}, {peer['split']}",
        peer["tta"],
        str(peer["members"]),
        f"{peer['parameters']:,}" if measured else "-",
        f"{peer['images_per_second']:.0f}" if measured else "-",
        "-",
        "-",
        "-",
        ("" if peer["comparable"] or not measured else "not comparable: ") + peer["remark"],
        peer["source"],
    ]


def _theirs(result: dict[str, Any]) -> list[str]:
    remark = ("" if result["comparable"] else "not comparable: ") + result["remark"]
    return [
        result["method"],
        f"{100 * result['accuracy']:.2f}",
        _interval(result),
        "-",
        f"FER-2013, {result['split']}",
        _told(result["tta"]),
        _told(result["members"]),
        f"{result['parameters']:,}" if result["parameters"] else "-",
        "-",
        _told(result["selected_on"]),
        {**EXTRA, True: "yes"}[result["extra_data"]],
        _told(result["year"]),
        remark,
        result["source"],
    ]


def _interval(result: dict[str, Any]) -> str:
    bounds = result["accuracy_ci95"]
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}" if bounds else "-"


def _told(value: Any) -> str:
    return "-" if value is None else str(value)


def _sentences(comparison: dict[str, Any]) -> list[str]:
    said = [
        pair.get("sentence") or f"{pair['first']} and {pair['second']} are not compared: {pair['not_compared']}."
        for pair in comparison["pairs"]
    ]
    return said or ["There is one run only."]


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)
