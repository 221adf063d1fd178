"""Chromium without a window, for the tests of pages; where it is not installed, they are skipped."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextlib.contextmanager
def chromium(profile: pathlib.Path, width: int, dark: bool, flags: Sequence[str] = ()) -> Iterator[Any]:
    """A browser as `emulate` makes it, with flags of its own beside ours."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: the extra test brings it")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        emulate(page, width, dark)
        yield page
    finally:
        page.quit()


def emulate(page: Any, width: int, dark: bool) -> None:
    """Makes the window `width` pixels wide, below 600 a phone's, and its user one who wants it dark or light."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
