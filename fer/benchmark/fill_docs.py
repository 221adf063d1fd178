"""The figures in a document: each stands between two comments, the first of which says where it comes from.

    <!--input / fer, resident / ratio >= 20-->24.10, met<!--/-->
    <!--input / fer, resident / value-->1,234,567 (1,100,000 to 1,300,000)<!--/-->
    <!--machine-->AMD EPYC, 2 cores, no GPU; TensorFlow 2.15.1, Python 3.11.9, fer 0.1.0<!--/-->

`scripts/benchmark.py --fill=DOCUMENT` sets them to what was measured, and a test holds the document against the
file, so that no figure is typed and none goes stale.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

from fer.config import suggest
from fer.errors import UserError
from fer.io import files

CELL = re.compile(r"<!--(machine|[^/\n]+ / .+? / [^/\n]+?)-->.*?<!--/-->")
ASKED = re.compile(r"(value|ratio)(?: (>=|<=) ([0-9.]+))?")
HOLDS = {">=": operator.ge, "<=": operator.le}


def fill(path: str, figures: str) -> None:
    """Sets the figures of the document at `path` to those in the file `figures`.

    Raises:
      UserError: either cannot be read, or see `filled`.
    """
    content = files.read_json(figures, "the file of measured figures")
    if not isinstance(content, dict) or not {"machine", "versions", "results"} <= set(content):
        raise UserError(f"{figures} holds no figures that scripts/benchmark.py measured; name another with --output.")
    try:
        with files.open_file(path) as file:
            document = file.read().decode("utf-8")
    except (*files.io_errors(), UnicodeDecodeError) as error:  # type: ignore[misc]  # mypy rejects a starred tuple
        raise UserError(f"Cannot read {path}: {files.error_message(error)}.") from error
    files.write_text(path, fill_text(document, content))


def fill_text(document: str, content: Mapping[str, Any]) -> str:
    """The document with its figures set to those of a benchmark.

    Args:
      document: Markdown.
      content: what `fer.benchmark.harness.write` wrote.

    Raises:
      UserError: the document asks for a figure that was not measured (the message names the nearest), or not in one of
        the forms above.
    """
    known = {f"{result['suite']} / {result['name']}": result for result in content["results"]}

    def cell(found: re.Match[str]) -> str:
        source = found[1]
        text = _machine(content) if source == "machine" else _figure(source, known)
        return f"<!--{source}-->{text}<!--/-->"

    return CELL.sub(cell, document)


def _figure(source: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    name, _, asked = source.rpartition(" / ")
    if name not in known:
        raise UserError(f"The document asks for {name!r}, which was not measured{suggest(name, list(known))}.")
    form = ASKED.fullmatch(asked)
    if not form:
        raise UserError(f'The document asks for {source!r}, which must end in "value" or "ratio", or "ratio >= 20".')
    result, (field, relation, bound) = known[name], form.groups()
    if result[field] is None:
        raise UserError(f"The document asks for the ratio of {name!r}, which has no baseline.")
    if field == "ratio":
        text = f"{result['ratio']:.2f}"
    else:
        text = f"{result['value']:,.0f}"
        if result["low"] != result["high"]:
            text += f" ({result['low']:,.0f} to {result['high']:,.0f})"
    if relation:
        text += ", met" if HOLDS[relation](result[field], float(bound)) else ", missed"
    return text


def _machine(content: Mapping[str, Any]) -> str:
    machine, versions = content["machine"], content["versions"]
    gpus = f"{machine['gpus']} GPUs" if machine["gpus"] else "no GPU"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {gpus}; TensorFlow {versions['tensorflow']}, "
        f"Python {versions['python']}, fer {versions['fer']}"
    )
