# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The distribution's Chromium without a screen, for tests and pictures of the pages."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
import typing as t

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
# It calls nobody: not for updates, not for a list of bad sites, not for a time of day.
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-features=OptimizationHints,MediaRouter",
    "--hide-scrollbars",
)


def installed() -> bool:
    """Whether there is one; not on Ubuntu, whose Chromium is a snap."""
    return os.path.exists(CHROMIUM) and os.path.exists(DRIVER)


@contextlib.contextmanager
def browser(width: int = 1400, height: int = 900, scheme: str = "light") -> t.Iterator[webdriver.Chrome]:
    """A browser with a new profile; `scheme` is what its user prefers, light or dark."""
    with tempfile.TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = CHROMIUM
        for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            prefer(driver, scheme)
            resize(driver, width, height)
            yield driver
        finally:
            driver.quit()


def resize(driver: webdriver.Chrome, width: int, height: int) -> None:
    """Give the page so many pixels, whatever the window's frame takes."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def prefer(driver: webdriver.Chrome, scheme: str) -> None:
    """Change what the user prefers, light or dark."""
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def picture(driver: webdriver.Chrome, path: pathlib.Path) -> None:
    """A PNG file of what the window shows."""
    path.write_bytes(driver.get_screenshot_as_png())
