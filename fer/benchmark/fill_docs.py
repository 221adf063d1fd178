"""Fills the benchmark results into a document. Each result is between two comments; the first names its source.

    <!--input / fer, in memory / ratio >= 20-->24.10 (22.87 to 25.02), met<!--/-->
    <!--input / fer, in memory / value-->1,234,567 (1,100,000 to 1,300,000)<!--/-->
    <!--machine-->AMD EPYC, 2 cores, no GPU; TensorFlow 2.15.1, Python 3.11.9, fer 0.1.0<!--/-->
    <!--table scaling / efficiency-->
    ...
    <!--/-->

A table has all results of a suite whose name is "TABLE: ROW: COLUMN".

`scripts/benchmark.py --update_doc=DOCUMENT` replaces the text between the comments by the measured values, and a test
compares the document with the recorded file.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

from fer.errors import UserError, command_name, suggest
from fer.io import files

CELL = re.compile(r"<!--(machine|[^/\n]+ / .+? / [^/\n]+?)-->.*?<!--/-->")
TABLE = re.compile(r"<!--table (\w+) / ([^/\n]+?)-->.*?<!--/-->", re.DOTALL)
FIELD = re.compile(r"(value|ratio)(?: (>=|<=) ([0-9.]+))?")
COUNTS = ("images", "launches")  # units of whole numbers
COMPARISONS = {">=": operator.ge, "<=": operator.le}


def fill(path: str, figures: str) -> None:
    """Fills the results of a benchmark into a document.

    Args:
      path: the Markdown file, which is replaced.
      figures: the JSON file that `fer.benchmark.harness.write_results` wrote.

    Raises:
      UserError: a file cannot be read, or see `fill_text`.
    """
    content = files.read_json(figures, "the file of benchmark results")
    if not isinstance(content, dict) or not {"machine", "versions", "results"} <= set(content):
        raise UserError(f"{figures} has no results of {command_name('benchmark')}. Name another file with --output.")
    try:
        with files.open_file(path) as file:
            document = file.read().decode("utf-8")
    except (*files.io_errors(), UnicodeDecodeError) as error:  # type: ignore[misc]  # mypy rejects a starred tuple
        raise UserError(f"Cannot read {path}: {files.error_message(error)}.") from error
    files.write_text(path, fill_text(document, content))


def fill_text(document: str, content: Mapping[str, Any]) -> str:
    """Returns a document with its results replaced by those of a benchmark.

    Args:
      document: the text, in Markdown.
      content: the content of the file that `fer.benchmark.harness.write_results` wrote.

    Raises:
      UserError: the document names a result that was not measured (the message suggests the nearest name), or does not
        have one of the forms above.
    """
    known = {f"{result['suite']} / {result['name']}": result for result in content["results"]}

    def cell(found: re.Match[str]) -> str:
        source = found[1]
        text = _format_machine(content) if source == "machine" else _format_result(source, known)
        return f"<!--{source}-->{text}<!--/-->"

    def table(found: re.Match[str]) -> str:
        return f"<!--table {found[1]} / {found[2]}-->\n{_format_table(found[1], found[2], known)}\n<!--/-->"

    return TABLE.sub(table, CELL.sub(cell, document))


def _format_result(source: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    name, _, expression = source.rpartition(" / ")
    if name not in known:
        raise UserError(f"The document names the result {name!r}, which was not measured{suggest(name, list(known))}.")
    form = FIELD.fullmatch(expression)
    if not form:
        raise UserError(
            f'The document names {source!r}. It must end in "value", "ratio" or a condition such as "ratio >= 20".'
        )
    result, (field, relation, bound) = known[name], form.groups()
    if result[field] is None:
        raise UserError(f"The document names the ratio of {name!r}, which has no baseline.")
    if field == "ratio":
        text = f"{result['ratio']:.2f}"
        low, high = (result.get(bound) for bound in ("ratio_low", "ratio_high"))  # not in files of older versions
        if low != high:
            text += f" ({low:.2f} to {high:.2f})"
    else:
        text, low, high = (_format_number(result, key) for key in ("value", "low", "high"))
        if result["low"] != result["high"]:
            text += f" ({low} to {high})"
    if relation:
        text += ", met" if COMPARISONS[relation](result[field], float(bound)) else ", missed"
    return text


def _format_number(result: Mapping[str, Any], key: str = "value") -> str:
    """Formats a number of a result; its value and its range have the same number of decimals."""
    unit = result.get("unit", "")
    decimals = 1 if unit not in COUNTS and (unit.startswith("%") or result["low"] < 10) else 0
    return f"{result[key]:,.{decimals}f}"


def _format_table(suite: str, name: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    rows: dict[str, dict[str, str]] = {}
    for source, result in known.items():
        if source.startswith(f"{suite} / {name}: "):
            _, row, column = source.split(": ")
            rows.setdefault(row, {})[column] = _format_number(result)
    if not rows:
        raise UserError(f"The document names the table {name!r} of the suite {suite!r}, which has no results.")
    columns = list(next(iter(rows.values())))
    lines = [["", *columns], ["---"] * (len(columns) + 1), *([row, *cells.values()] for row, cells in rows.items())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _format_machine(content: Mapping[str, Any]) -> str:
    machine, versions = content["machine"], content["versions"]
    gpus = f"{machine['gpus']} GPUs" if machine["gpus"] else "no GPU"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {gpus}; TensorFlow {versions['tensorflow']}, "
        f"Python {versions['python']}, fer {versions['fer']}"
    )
