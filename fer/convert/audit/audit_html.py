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
from fer.html_page import build_html_page, data_uri
from fer.labels import CLASSES, COLOURS, SIDE

MAX_GROUPS = 24  # groups or faces per finding; audit.json lists all
MAX_FACES = 8  # per group

_STYLE = """
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--line:#d5d5d5;--soft:#666}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e8;--paper:#161616;--line:#3c3c3c;--soft:#a0a0a0}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
body{margin:2rem auto;max-width:64rem;padding:0 1rem}
h2{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:1rem}
.scroll{overflow-x:auto}table{border-collapse:collapse}.scroll table{width:100%}.scroll td:last-child{width:40%}
.figures{columns:2 22rem;column-gap:3rem}.figures table{break-inside:avoid;width:100%;margin-bottom:1.5rem}
.figures th{text-transform:capitalize}nav li{margin:.15rem 0}a{color:inherit}
th,td{padding:.25rem .75rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal}
.groups{display:flex;flex-wrap:wrap;gap:.75rem}
.group{display:flex;flex-wrap:wrap;border:1px solid var(--line);border-radius:6px;padding:.4rem;gap:.4rem}
figure{margin:0;text-align:center}figure img{width:72px;height:72px;margin:auto;image-rendering:pixelated;display:block}
figcaption{font-size:.75rem;line-height:1.3}figcaption small{color:var(--soft);display:block;font-size:.7rem}
.bar{display:flex;height:1.5rem;min-width:8rem;outline:1px solid var(--line)}.bar span{display:block;height:100%}
.key span{display:inline-block;outline:1px solid var(--line);width:.8em;height:.8em;margin:0 .3em 0 1em}
.note{color:var(--soft)}
@media(max-width:40rem){.scroll th,.scroll td{padding:.2rem .1rem;font-size:.7rem}
.scroll th+th{writing-mode:vertical-rl}
.scroll th:last-child,.scroll td:last-child{display:none}.figures{columns:1}
.figures td{white-space:normal;overflow-wrap:anywhere}}
"""


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
        images = dataset.store.read_faces(positions[:MAX_FACES])
        shown = "".join(_face_figure(image, dataset, splits, at) for image, at in zip(images, positions))
        more = f"<figure>+{len(positions) - MAX_FACES}</figure>" if len(positions) > MAX_FACES else ""
        return f'<div class="group">{shown}{more}</div>'

    def section(title: str, explained: str, groups: Sequence[np.ndarray]) -> str:
        """Returns the HTML of a finding."""
        count = f"<p class=note>The first {MAX_GROUPS} of {len(groups):,}.</p>" if len(groups) > MAX_GROUPS else ""
        shown = "".join(faces(group) for group in groups[:MAX_GROUPS]) or "<p>None.</p>"
        return f'<h2 id="{_anchor(title)}">{title}</h2><p>{explained}</p>{count}<div class="groups">{shown}</div>'

    title, findings = f"Audit of {name}", _findings(summary, found)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _table_of_contents(findings),
        "<h2>Classes by split</h2>",
        _balance_chart(summary["class_balance"]),
        *(section(*finding) for finding in findings),
        "<h2>All figures</h2>",
        _count_tables(summary),
    ]
    return build_html_page(title, _STYLE, "".join(parts))


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
    name = "unlabelled" if label == UNLABELLED else CLASSES[label]
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


def _balance_chart(balance: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the class balance of each split as a table with bars."""
    key = "".join(f'<span style="background:{c}"></span>{n}' for n, c in zip(CLASSES, COLOURS))
    rows = []
    for split, shares in balance.items():
        bar = "".join(
            f'<span title="{name}" style="width:{shares[name]:.2%};background:{colour}"></span>'
            for name, colour in zip(CLASSES, COLOURS)
        )
        numbers = "".join(f"<td>{shares[name]:.1%}</td>" for name in CLASSES)
        rows.append(f'<tr><td>{split}</td>{numbers}<td><div class="bar">{bar}</div></td></tr>')
    head = "".join(f"<th>{name}</th>" for name in CLASSES)
    body = f"<table><tr><th>split</th>{head}<th></th></tr>{''.join(rows)}</table>"
    return f'<p class="key">{key}</p><div class="scroll">{body}</div>'
