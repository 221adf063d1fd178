"""Builds HTML pages that are one file and load nothing from a network.

html_page.css is the style that all pages share: colours, light and dark, and the font.
"""

from __future__ import annotations

import base64
import functools
import html
import importlib.resources


def build_html_page(title: str, style: str, body: str, scripts: str = "") -> str:
    """Builds an HTML page.

    The page's Content-Security-Policy allows only what the file itself contains: images as data URIs, the style and, if
    there are any, the scripts.

    Args:
      title: plain text; it is escaped here.
      style: CSS of this page, after the one that all pages share.
      body: HTML of the body, escaped by the caller.
      scripts: HTML of script elements at the end of the body.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    policy += "; script-src 'unsafe-inline'" if scripts else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{html.escape(title)}</title><style>{base_style()}{style}</style></head><body>
{body}
{scripts}</body></html>
"""


def base_style() -> str:
    """Returns the CSS that all pages share."""
    return read_resource("fer", "html_page.css")


@functools.cache
def read_resource(package: str, name: str) -> str:
    """Returns the text of a file that is installed with a package."""
    return importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8")


def data_uri(content: bytes, media_type: str) -> str:
    """Encodes the content of a file, such as one of media type image/png, as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
