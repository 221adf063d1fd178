"""Headless Chromium for the tests of pages. If it is not installed, these tests are skipped."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip


@contextlib.contextmanager
def chromium(folder: pathlib.Path, film: bytes) -> Iterator[Any]:
    """Starts a browser and closes it at the end.

    Args:
      folder: existing folder for the profile.
      film: JPEG that the fake camera shows.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: the extra test brings it")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)")
    (folder / "film.mjpeg").write_bytes(2 * film)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--use-file-for-fake-video-capture={folder}/film.mjpeg", f"--user-data-dir={folder}/profile"):
        options.add_argument(flag)
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield page
    finally:
        page.quit()


def emulate(page: Any, width: int, dark: bool, height: int = 900) -> None:
    """Sets the size of the window in pixels, below 600 that of a phone, and the preferred colour scheme."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def cut_cells(page: Any) -> list[str]:
    """Returns the text of each visible table cell that ends beyond the window or is narrower than its content."""
    return page.execute_script(
        "const edge = document.documentElement.clientWidth;"
        "return [...document.querySelectorAll('td, th')].filter(cell => cell.getClientRects().length"
        " && (cell.getBoundingClientRect().right > edge || cell.scrollWidth > cell.clientWidth))"
        ".map(cell => cell.textContent)"
    )
