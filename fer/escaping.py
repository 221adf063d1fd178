"""Text from elsewhere, made harmless where a person meets it: a terminal, a spreadsheet, Markdown."""

from __future__ import annotations

import re

# Moves a terminal's cursor or its colours, ends a line, or turns the direction of what follows.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_IN_CELL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"  # and their wide forms, which some spreadsheets take for them
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_SCHEME = r"\b(?!s3:)\w[\w+.-]*://"  # an object of S3 may have "?" in its name
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escape_line(text: str) -> str:
    r"""Returns a text on one line, its control characters written out as in "\x1b"."""
    return _CONTROL.sub(_escape_match, text)


def escape_lines(text: str) -> str:
    """Returns lines with their control characters written out, but for tabs and line ends."""
    return _CONTROL.sub(lambda found: found[0] if found[0] in "\t\n\r" else _escape_match(found), text)


def escape_cell(text: str) -> str:
    r"""Returns a text that a spreadsheet takes for text, as OWASP advises against CSV injection.

    One that begins with =, +, -, @ (whatever spaces are before it), a quote ' or a control character gets a quote '
    before it, so that the text itself is what follows the first quote. Control characters but tabs and line feeds are
    written out, as in "\x1b". Numbers are not to be given.
    """
    text = _IN_CELL.sub(_escape_match, text)
    return f"'{text}" if is_risky(text) else text


def is_risky(text: str) -> bool:
    """Returns whether `cell` puts a quote before a text."""
    return text.lstrip()[:1] in tuple(_FORMULA) or text[:1] == "'" or bool(_CONTROL.match(text))


def escape_markdown(text: str) -> str:
    """Returns a text that Markdown shows as it is, on one line: no HTML, link, emphasis or cell of a table begins."""
    text = _MARKDOWN.sub(lambda found: f"\\{found[0]}", escape_line(text))
    return re.sub("[&<>]", lambda found: _ENTITIES[found[0]], text)


def code_span(text: str) -> str:
    """Returns a code span of Markdown that shows a text as it is, on one line; nothing in the text ends the span."""
    text = escape_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if fence[1:] else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def redact(text: str) -> str:
    """Returns a text without the secrets of the URLs in it: passwords, and all values of queries."""
    text = re.sub(rf"({_SCHEME}[^\s?]*\?)(\S*=\S*)", lambda url: url[1] + re.sub("=[^&\\s)]*", "=***", url[2]), text)
    text = re.sub(rf"({_SCHEME}[^\s:@/?]*):\S*@", r"\1:***@", text)
    text = re.sub(rf"({_SCHEME}[^\s?]*\?)[^\s=]+(?=\s|$)", r"\1***", text)
    return re.sub(r"(?i)\b(passw(?:or)?d|pwd|secret|token)(\s*=\s*)[^\s&;,)]+", r"\1\2***", text)


def _escape_match(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
