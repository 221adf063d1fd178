"""report.html: an evaluation as one page that needs no network, with its pictures and faces inside.

It holds faces of the data: it is written beside the other results and must not be published where these may not be.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from fer.evaluation.report import report_text
from fer.labels import CLASSES
from fer.viz.sprite_sheet import FaceSheet, build_sheet

PICTURES = {
    "gradcam.png": "What spoke for the predicted class, in two faces a class",
    "mistakes.png": "The most confident mistakes",
    "reliability.png": "Is it as right as it is confident?",
    "roc_pr.png": "Each class against the rest",
    "corruptions.png": "When faces get worse",
    "curves.png": "The training run",
}


def page(
    content: Mapping[str, Any],
    labels: np.ndarray,
    probabilities: np.ndarray,
    rows: np.ndarray,
    images: np.ndarray,
    pictures: Mapping[str, bytes],
) -> str:
    """The page.

    Args:
      content: of eval.json.
      labels, probabilities, rows, images: [n], [n, 7], [n] and [n, 48, 48, 1] uint8, of the scored examples.
      pictures: PNG bytes by file name; those named in `PICTURES` are shown, in that order.
    """
    faces = build_sheet(labels, probabilities, images)
    title = f"{content['model']} on {content['data']['name']}, {content['split']}"
    low, high = (100 * bound for bound in content["accuracy_ci95"])
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="headline">{100 * content["accuracy"]:.2f} %</p>',
        f'<p class="soft">of {content["examples"]:,} faces recognised; 95 % interval {low:.2f} to {high:.2f} %</p>',
        "<h2>How this was measured</h2>",
        "".join(f"<p>{html.escape(sentence)}</p>" for sentence in report_text.protocol(content)),
        "<h2>Confusion matrix</h2>",
        _matrix(content["confusion_matrix"], faces),
        "<h2>Figures</h2>",
        _table(("figure", "value", "95 % interval", "what it says"), report_text.figures(content), numbers=(1, 2)),
        "<h2>Class by class</h2>",
        _table(report_text.CLASS_HEADER, report_text.classes(content), numbers=range(1, 7)),
        *_optional(content),
        "<h2>Pictures</h2>",
        *(_picture(pictures[name], said) for name, said in PICTURES.items() if name in pictures),
        "<h2>Where this comes from</h2>",
        _table(("", ""), report_text.provenance(content), hashes=True),
    ]
    return _document(title, "\n".join(parts), faces, rows)


def _document(title: str, body: str, faces: FaceSheet, rows: np.ndarray) -> str:
    data = {
        "columns": faces.columns,
        "cells": [{"first": cell.first, "shown": cell.shown} for cell in faces.cells],
        "rows": rows[faces.positions].tolist(),
        "confidence": [f"{100 * value:.0f}" for value in faces.confidence],
    }
    style = _resource("report.css") + (
        f".face{{--columns:{faces.columns};background-image:url(data:image/jpeg;base64,{_base64(faces.jpeg)})}}"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{html.escape(title)}</title><style>{style}</style></head><body>
{body}
<script id="data" type="application/json">{json.dumps(data)}</script>
<script>{_resource("report.js")}</script>
</body></html>
"""


def _matrix(matrix: list[list[int]], faces: FaceSheet) -> str:
    """The matrix as a table of buttons, and the place where a cell's faces appear."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mistakes = counts - np.diag(np.diag(counts))
    opened = int(mistakes.argmax()) if mistakes.any() else int(counts.argmax())
    head = "".join(f'<th scope="col">{name}</th>' for name in CLASSES)
    body = []
    for true, name in enumerate(CLASSES):
        cells = "".join(_cell(true, taken, counts, shares, faces, opened) for taken in range(len(CLASSES)))
        body.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return (
        '<p class="soft">Rows are true classes, columns what the network said; the number is the percentage of '
        "the row, the small one how many faces. Choose a cell to see them.</p>"
        f'<table class="matrix"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
        '<h3 id="faces-heading" aria-live="polite"></h3><div id="faces"></div>'
    )


def _cell(true: int, taken: int, counts: np.ndarray, shares: np.ndarray, faces: FaceSheet, opened: int) -> str:
    number = true * len(CLASSES) + taken
    count, share, shown = int(counts[true, taken]), shares[true, taken], faces.cells[number].shown
    said = f"{CLASSES[true]}, recognised" if true == taken else f"{CLASSES[true]}, taken for {CLASSES[taken]}"
    partly = f", the {shown:,} most confident shown" if shown < count else ", the most confident first"
    marks = "" if count else " disabled"
    marks += " data-opened" if number == opened and count else ""
    return (
        f'<td><button type="button" data-cell="{number}" aria-pressed="false" style="--share:{share:.3f}"{marks} '
        f'title="{said}: {count:,} {"face" if count == 1 else "faces"}{partly}">'
        f"{100 * share:.0f}<small>{count:,}</small></button></td>"
    )


def _optional(content: Mapping[str, Any]) -> list[str]:
    """Sections that not every evaluation has."""
    parts = []
    if content["by_agreement"]:
        rows = [
            (str(entry["votes"]), f"{entry['examples']:,}", f"{100 * entry['accuracy']:.1f} %")
            for entry in content["by_agreement"]
        ]
        parts += ["<h2>By how many people agreed</h2>", _table(("of ten people", "faces", "accuracy"), rows, range(3))]
    if "corruptions" in content:
        corruptions = report_text.corruptions(content)
        header = ("corruption", "1, weak", "2", "3", "4", "5, strong", "mean", "levels")
        parts += ["<h2>When faces get worse</h2>", _table(header, corruptions, numbers=range(1, 7))]
    return parts


def _table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Container[int] = (), hashes: bool = False
) -> str:
    """Columns in `numbers` are set to the right; with `hashes` the last one may break anywhere."""
    kind = ["number" if place in numbers else "" for place in range(len(header))]
    kind[-1] = "hash" if hashes else kind[-1]

    def line(tag: str, texts: Sequence[str]) -> str:
        return "".join(f'<{tag} class="{k}">{html.escape(text)}</{tag}>' for k, text in zip(kind, texts))

    head = f"<thead><tr>{line('th', header)}</tr></thead>" if any(header) else ""
    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _picture(content: bytes, said: str) -> str:
    source = f"data:image/png;base64,{_base64(content)}"
    return f'<figure class="picture"><figcaption>{said}</figcaption><img alt="{said}" src="{source}"></figure>'


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _resource(name: str) -> str:
    return importlib.resources.files("fer.evaluation.report").joinpath(name).read_text(encoding="utf-8")
