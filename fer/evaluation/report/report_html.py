"""report.html: an evaluation as one page that needs no network, with its plots and faces embedded.

The page shows faces of the data: publish it only where the data may be published.
"""

from __future__ import annotations

import html
import json
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from fer import run_dir
from fer.evaluation.report import report_content
from fer.html_page import build_html_page, data_uri, read_resource
from fer.viz.sprite_sheet import FaceSheet, build_sheet

PLOTS = {  # file name: caption; in the order of the page
    "gradcam.png": "Grad-CAM: evidence for the predicted class, two faces of each class",
    "mistakes.png": "Most confident mistakes",
    "reliability.png": "Reliability diagram",
    "roc_pr.png": "ROC and precision-recall curves, each class against the rest",
    "corruptions.png": "Accuracy under corruption",
    run_dir.CURVES_FILE: "Learning curves of the training run",
}
MAX_NUMBERED_CLASSES = 20  # of more classes, the cells of the confusion matrix have no numbers
CORRUPTION_HEADER = ("corruption", *(f"strength {strength}" for strength in range(1, 6)), "mean", "levels")


def build_page(
    content: Mapping[str, Any],
    labels: np.ndarray,
    probabilities: np.ndarray,
    rows: np.ndarray,
    images: np.ndarray,
    plots: Mapping[str, bytes],
) -> str:
    """Builds the page.

    Args:
      content: of eval.json.
      labels, probabilities, rows, images: [n] integers, [n, C], [n] integers and [n, 48, 48, 1] uint8, of the evaluated
        examples; `rows` are the row numbers in the source.
      plots: PNG bytes by file name; those named in `PLOTS` are shown.
    """
    sheet = build_sheet(labels, probabilities, images)
    title = f"{content['model']} on {content['data']['name']}, {content['split']}"
    low, high = (100 * bound for bound in content["accuracy_ci95"])
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="headline">{100 * content["accuracy"]:.2f} %</p>',
        f'<p class="soft">accuracy (95 % CI {low:.2f}-{high:.2f}), n = {content["examples"]:,}</p>',
        "<h2>Protocol and caveats</h2>",
        "".join(f"<p>{html.escape(text)}</p>" for text in report_content.protocol_sentences(content)),
        "<h2>Confusion matrix</h2>",
        _matrix(content["confusion_matrix"], content["classes"], sheet),
        "<h2>Metrics</h2>",
        _table(report_content.METRIC_HEADER, report_content.metric_rows(content), numbers=(1, 2)),
        f'<p class="soft">{html.escape(report_content.INTERVALS)}</p>',
        "<h2>Metrics by class</h2>",
        _table(report_content.CLASS_HEADER, report_content.class_rows(content), numbers=range(1, 7)),
        *_optional_sections(content),
        "<h2>Plots</h2>",
        *(_plot(plots[name], caption) for name, caption in PLOTS.items() if name in plots),
        "<h2>Provenance</h2>",
        _table(("", ""), report_content.provenance_rows(content), hashes=True),
    ]
    style = read_resource("fer.evaluation.report", "report.css") + (
        f".face{{--columns:{sheet.columns};background-image:url({data_uri(sheet.jpeg, 'image/jpeg')})}}"
    )
    return build_html_page(title, style, "\n".join(parts), _scripts(sheet, rows))


def _scripts(sheet: FaceSheet, rows: np.ndarray) -> str:
    """Returns the index of the sprite sheet as JSON, and report.js, which reads it."""
    index = {
        "columns": sheet.columns,
        "cells": [{"first": cell.first, "shown": cell.shown} for cell in sheet.cells],
        "rows": rows[sheet.positions].tolist(),
        "confidence": [f"{100 * value:.0f}" for value in sheet.confidence],
    }
    return (
        f'<script id="data" type="application/json">{json.dumps(index)}</script>\n'
        f"<script>{read_resource('fer.evaluation.report', 'report.js')}</script>\n"
    )


def _matrix(matrix: list[list[int]], classes: Sequence[str], sheet: FaceSheet) -> str:
    """Returns the confusion matrix as a table of buttons, and the element that shows the faces of a cell."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mistakes = counts - np.diag(np.diag(counts))
    selected = int(mistakes.argmax()) if mistakes.any() else int(counts.argmax())
    names = [html.escape(name) for name in classes]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = []
    for true, name in enumerate(names):
        places = ((true, predicted) for predicted in range(len(names)))
        cells = "".join(_cell(place, names, counts, shares, sheet, selected) for place in places)
        body.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    dense = len(names) > MAX_NUMBERED_CLASSES
    shown = "" if dense else "Each cell: percentage of the row and, in small type, number of faces. "
    kind = " dense" if dense else " upright" if len(names) > 8 or max(map(len, classes)) > 9 else ""
    return (
        f'<p class="soft">Rows: true class. Columns: predicted class. {shown}Select a cell to see its faces.</p>'
        f'<div class="scroll"><table class="matrix{kind}"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        '<h3 id="faces-heading" aria-live="polite"></h3><div id="faces"></div>'
    )


def _cell(
    place: tuple[int, int],
    names: Sequence[str],
    counts: np.ndarray,
    shares: np.ndarray,
    sheet: FaceSheet,
    selected: int,
) -> str:
    """Returns a cell of the confusion matrix with its button; of many classes, an empty cell has none.

    Args:
      place: true and predicted class.
      names: of the C classes, escaped.
      counts, shares: [C, C], of the matrix and in [0, 1] of its rows.
      sheet: of the faces.
      selected: number of the cell that is open at first.
    """
    true, predicted = place
    number, dense = true * len(names) + predicted, len(names) > MAX_NUMBERED_CLASSES
    count, share, shown = int(counts[place]), shares[place], sheet.cells[number].shown
    if dense and not count:
        return "<td></td>"
    text = f"{names[true]}, {'correct' if true == predicted else f'predicted {names[predicted]}'}"
    order = f", the {shown:,} most confident shown" if shown < count else ", most confident first"
    attributes = "" if count else " disabled"
    attributes += " data-opened" if number == selected and count else ""
    content = "" if dense else f"{100 * share:.0f}<small>{count:,}</small>"
    return (
        f'<td><button type="button" data-cell="{number}" aria-pressed="false" style="--share:{share:.3f}"{attributes} '
        f'title="{text}: {count:,} {"face" if count == 1 else "faces"}{order}">{content}</button></td>'
    )


def _optional_sections(content: Mapping[str, Any]) -> list[str]:
    """Returns the sections that only some evaluations have."""
    parts = []
    if content["accuracy_by_agreement"]:
        rows = [
            (f"{entry['votes']} of 10", f"{entry['examples']:,}", f"{100 * entry['accuracy']:.1f} %")
            for entry in content["accuracy_by_agreement"]
        ]
        header = ("most FER+ votes", "examples", "accuracy")
        parts += ["<h2>Accuracy by annotator agreement</h2>", _table(header, rows, numbers=(1, 2))]
    if "corruptions" in content:
        corruptions = report_content.corruption_rows(content)
        parts += ["<h2>Accuracy under corruption</h2>", _table(CORRUPTION_HEADER, corruptions, numbers=range(1, 7))]
    return parts


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Container[int] = (), hashes: bool = False
) -> str:
    """Returns a table; on a narrow screen each row is a block whose cells have the names of their columns.

    Args:
      header: a name for each column; empty names make no head.
      rows: of texts, which are escaped here.
      numbers: indices of the columns that are aligned right.
      hashes: allows line breaks anywhere in the last column.
    """
    kinds = ["number" if place in numbers else "" for place in range(len(header))]
    kinds[-1] = "hash" if hashes else kinds[-1]

    def cells(texts: Sequence[str]) -> str:
        return "".join(
            f'<td class="{kind}" data-name="{html.escape(name)}">{html.escape(text)}</td>'
            for kind, name, text in zip(kinds, header, texts)
        )

    names = "".join(f'<th class="{kind}">{html.escape(name)}</th>' for kind, name in zip(kinds, header))
    head = f"<thead><tr>{names}</tr></thead>" if any(header) else ""
    body = "".join(f"<tr>{cells(row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="rows">{head}<tbody>{body}</tbody></table></div>'


def _plot(content: bytes, caption: str) -> str:
    source = data_uri(content, "image/png")
    return f'<figure class="picture"><figcaption>{caption}</figcaption><img alt="{caption}" src="{source}"></figure>'
