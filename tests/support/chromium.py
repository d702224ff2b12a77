"""Debian's chromium without a screen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from shutil import which

import pytest
from playwright.sync_api import Browser, sync_playwright

PHONE = {"width": 390, "height": 844}


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A running browser; without one the test is skipped, and fails in CI."""
    program = which("chromium")
    if program is None:
        reason = "chromium not installed; apt-get install chromium"
        pytest.fail(f"required in CI: {reason}") if os.environ.get("CI") == "true" else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", *flags])
        try:
            yield browser
        finally:
            browser.close()
