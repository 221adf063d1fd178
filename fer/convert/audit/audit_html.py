"""audit.html: the audit as one self-contained page with images."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from fer.convert.audit.audit import Audit
from fer.convert.ingest import IngestedDataset
from fer.convert.rows import SPLITS, UNLABELLED
from fer.html_page import build_html_page, data_uri, read_resource
from fer.labels import SIDE, class_colours, fit_in_row

MAX_GROUPS = 24  # groups or faces per finding; audit.json lists all
MAX_FACES = 8  # per group


def render_page(
    name: str, summary: Mapping[str, Any], found: Audit, dataset: IngestedDataset, splits: np.ndarray
) -> str:
    """Returns the page as HTML.

    Args:
      name: of the data set.
      summary: the manifest's `audit`.
      found: the findings.
      dataset: the faces.
      splits: int64 [n], index into SPLITS.
    """

    def faces(positions: np.ndarray) -> str:
        """Returns the HTML of a group of faces."""
        images = dataset.read_faces(positions[:MAX_FACES])
        shown = "".join(_face_figure(image, dataset, splits, at) for image, at in zip(images, positions))
        more = f"<figure>+{len(positions) - MAX_FACES}</figure>" if len(positions) > MAX_FACES else ""
        return f'<div class="group">{shown}{more}</div>'

    def section(title: str, explained: str, groups: Sequence[np.ndarray]) -> str:
        """Returns the HTML of a finding."""
        count = f"<p class=soft>The first {MAX_GROUPS} of {len(groups):,}.</p>" if len(groups) > MAX_GROUPS else ""
        shown = "".join(faces(group) for group in groups[:MAX_GROUPS]) or "<p>None.</p>"
        return f'<h2 id="{_anchor(title)}">{title}</h2><p>{explained}</p>{count}<div class="groups">{shown}</div>'

    title, findings = f"Audit of {name}", _findings(summary, found)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _table_of_contents(findings),
        "<h2>Classes by split</h2>",
        _balance_chart(summary["class_balance"], dataset.classes),
        *(section(*finding) for finding in findings),
        "<h2>All figures</h2>",
        _count_tables(summary),
    ]
    return build_html_page(title, read_resource("fer.convert.audit", "audit.css"), "".join(parts))


def _findings(summary: Mapping[str, Any], found: Audit) -> list[tuple[str, str, Sequence[np.ndarray]]]:
    """Returns title, explanation and groups of faces of each finding."""
    near, blank = summary["near_duplicates"], summary["blank"]
    alike = f"perceptual hashes ({near['method']}) differ in at most {near['threshold']} bits"
    findings: list[tuple[str, str, Sequence[np.ndarray]]] = [
        (
            "The same image, different labels",
            "Groups of identical images whose labels contradict each other.",
            found.conflicting,
        ),
        (
            "The same image in several splits",
            "A model that memorized such an image scores too high on the other split.",
            found.leaked,
        ),
        ("Nearly the same image in several splits", f"Images whose {alike}.", found.near_leaked),
        ("Nearly the same image", "All such groups, within one split or across splits.", found.near),
        (
            "Blank images",
            f"Constant, or with a standard deviation below {blank['nearly_blank_below']:g} grey levels.",
            _singleton_groups(found.constant | found.nearly_blank),
        ),
    ]
    if summary["ferplus"] is not None:
        findings += [
            (
                "No face, says FER+",
                "Most of ten people saw no face, or no image is named.",
                _singleton_groups(found.not_a_face),
            ),
            (
                "Labels that all voters of FER+ dispute",
                "All voters agree on another of the seven classes.",
                _singleton_groups(found.disputed),
            ),
        ]
    return findings


def _table_of_contents(findings: Sequence[tuple[str, str, Sequence[np.ndarray]]]) -> str:
    """Returns links to the findings, with the number of faces and groups of each."""
    items = []
    for title, _, groups in findings:
        faces = sum(map(len, groups))
        count = f"{faces:,} faces" + (f" in {len(groups):,} groups" if faces > len(groups) else "")
        items.append(f'<li><a href="#{_anchor(title)}">{title}</a>: {count if faces else "none"}</li>')
    return f"<nav><ul>{''.join(items)}</ul></nav>"


def _anchor(title: str) -> str:
    """Returns the anchor of a title."""
    return re.sub(r"\W+", "-", title.lower())


def _singleton_groups(mask: np.ndarray) -> list[np.ndarray]:
    """Returns each face of a mask, bool [n], as its own group."""
    return list(np.flatnonzero(mask)[:, None])


def _face_figure(image: np.ndarray, dataset: IngestedDataset, splits: np.ndarray, position: int) -> str:
    """Returns the HTML of a face with its label, split and row."""
    file = io.BytesIO()
    Image.fromarray(image.reshape(SIDE, SIDE)).save(file, "PNG")
    source = data_uri(file.getvalue(), "image/png")
    label = dataset.labels[position]
    name = "unlabelled" if label == UNLABELLED else html.escape(dataset.classes[label])
    where = f"{SPLITS[splits[position]]} {dataset.rows[position]}"
    return (
        f'<figure><img alt="{name}, {where}" src="{source}">'
        f"<figcaption>{name}<small>{where}</small></figcaption></figure>"
    )


def _count_tables(summary: Mapping[str, Any]) -> str:
    """Returns a table per group of counts of the summary, without the class balance."""
    groups: dict[str, dict[str, Any]] = {"rows": {}}
    for key, value in summary.items():
        if isinstance(value, Mapping):
            groups[key] = dict(_flatten(value)) if key != "class_balance" else {}
        elif value is not None:
            groups["rows"][key] = value
    tables = []
    for title, counts in groups.items():
        rows = "".join(
            f"<tr><td>{_key_text(key)}</td><td>{_format_value(value)}</td></tr>" for key, value in counts.items()
        )
        if rows:
            tables.append(f'<table><tr><th colspan="2">{_key_text(title)}</th></tr>{rows}</table>')
    return f'<div class="figures">{"".join(tables)}</div>'


def _flatten(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the path and value of each entry of nested mappings that is not None."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{above}{key}: ")
        elif value is not None:
            yield above + key, value


def _key_text(key: str) -> str:
    """Returns a key as text for the page."""
    return html.escape(key.replace("_", " ").replace("ferplus", "FER+"))


def _format_value(value: Any) -> str:
    """Returns a count with thousands separators, or a share in percent."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1%}" if isinstance(value, float) and value <= 1 else html.escape(str(value))


def _balance_chart(balance: Mapping[str, Mapping[str, float]], classes: tuple[str, ...]) -> str:
    """Returns the class balance of each split as a table with bars; with many classes, with a row for each class."""
    names, colours = [html.escape(name) for name in classes], class_colours(classes)
    bars = {
        split: "".join(
            f'<span title="{name}" style="width:{share:.2%};background:{colour}"></span>'
            for name, share, colour in zip(names, shares.values(), colours)
        )
        for split, shares in balance.items()
    }
    if not fit_in_row(classes):
        return _tall_balance_chart(balance, bars, names, colours)
    key = "".join(f'<span style="background:{colour}"></span>{name}' for name, colour in zip(names, colours))
    rows = []
    for split, shares in balance.items():
        numbers = "".join(f"<td>{share:.1%}</td>" for share in shares.values())
        rows.append(f'<tr><td>{split}</td>{numbers}<td><div class="bar">{bars[split]}</div></td></tr>')
    head = "".join(f"<th>{name}</th>" for name in names)
    body = f"<table><tr><th>split</th>{head}<th></th></tr>{''.join(rows)}</table>"
    return f'<p class="key">{key}</p><div class="scroll">{body}</div>'


def _tall_balance_chart(
    balance: Mapping[str, Mapping[str, float]], bars: Mapping[str, str], names: Sequence[str], colours: Sequence[str]
) -> str:
    """Returns the class balance with a row for each class and a column for each split, below the bars."""
    shown = "".join(f'<tr><td>{split}</td><td><div class="bar">{bar}</div></td></tr>' for split, bar in bars.items())
    rows = []
    for index, (name, colour) in enumerate(zip(names, colours)):
        cells = "".join(f"<td>{list(shares.values())[index]:.1%}</td>" for shares in balance.values())
        key = f'<span class="key"><span style="background:{colour}"></span></span>'
        rows.append(f"<tr><td>{key}{name}</td>{cells}</tr>")
    head = "".join(f"<th>{split}</th>" for split in balance)
    table = f"<table><tr><th>class</th>{head}</tr>{''.join(rows)}</table>"
    return f'<div class="scroll tall"><table>{shown}</table></div><div class="classes">{table}</div>'
