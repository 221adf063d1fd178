"""Builds HTML pages that are one file and load nothing from a network."""

from __future__ import annotations

import base64
import html


def build_html_page(title: str, style: str, body: str, scripts: str = "") -> str:
    """Builds an HTML page.

    The page's Content-Security-Policy allows only what the file itself contains: images as data URIs, the style and, if
    there are any, the scripts.

    Args:
      title: plain text; it is escaped here.
      style: CSS.
      body: HTML of the body, escaped by the caller.
      scripts: HTML of script elements at the end of the body.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    policy += "; script-src 'unsafe-inline'" if scripts else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{html.escape(title)}</title><style>{style}</style></head><body>
{body}
{scripts}</body></html>
"""


def data_uri(content: bytes, media_type: str) -> str:
    """Encodes the content of a file, such as one of media type image/png, as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
