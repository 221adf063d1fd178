"""Escaping of untrusted text for terminals, spreadsheets and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Characters that move a terminal's cursor, change its colours, end a line or reverse the text direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_IN_CELL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"  # with their full-width forms, which some spreadsheets treat alike
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_SCHEME = r"\b(?!s3:)\w[\w+.-]*://"  # an object of S3 may have "?" in its name
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table; the cells are Markdown."""
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]


def escape_line(text: str) -> str:
    r"""Returns a text on one line, with control characters escaped as in "\x1b"."""
    return _CONTROL.sub(_escape_match, text)


def escape_lines(text: str) -> str:
    """Returns lines with control characters escaped, except tabs and line ends."""
    return _CONTROL.sub(lambda found: found[0] if found[0] in "\t\n\r" else _escape_match(found), text)


def escape_cell(text: str) -> str:
    r"""Returns a text that a spreadsheet treats as text, as OWASP recommends against CSV injection.

    A text that begins with =, +, -, @ (after any spaces), a quote ' or a control character gets a leading quote '; the
    original text follows the first quote. Control characters except tabs and line feeds are escaped, as in "\x1b".
    Do not pass numbers.
    """
    text = _IN_CELL.sub(_escape_match, text)
    return f"'{text}" if is_risky(text) else text


def is_risky(text: str) -> bool:
    """Returns whether `escape_cell` puts a quote before a text."""
    return text.lstrip()[:1] in tuple(_FORMULA) or text[:1] == "'" or bool(_CONTROL.match(text))


def escape_markdown(text: str) -> str:
    """Returns a text that Markdown shows literally on one line: without HTML, links, emphasis or table cells."""
    text = _MARKDOWN.sub(lambda found: f"\\{found[0]}", escape_line(text))
    return re.sub("[&<>]", lambda found: _ENTITIES[found[0]], text)


def code_span(text: str) -> str:
    """Returns a code span of Markdown that shows a text literally on one line; no backtick in it ends the span."""
    text = escape_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if fence[1:] else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def redact(text: str) -> str:
    """Returns a text with the secrets in its URLs replaced by ***: passwords and all query values."""
    text = re.sub(rf"({_SCHEME}[^\s?]*\?)(\S*=\S*)", lambda url: url[1] + re.sub("=[^&\\s)]*", "=***", url[2]), text)
    text = re.sub(rf"({_SCHEME}[^\s:@/?]*):\S*@", r"\1:***@", text)
    text = re.sub(rf"({_SCHEME}[^\s?]*\?)[^\s=]+(?=\s|$)", r"\1***", text)
    return re.sub(r"(?i)\b(passw(?:or)?d|pwd|secret|token)(\s*=\s*)[^\s&;,)]+", r"\1\2***", text)


def _escape_match(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
