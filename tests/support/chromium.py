"""Debian's chromium without a screen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from shutil import which

from components import required
from playwright.sync_api import Browser, sync_playwright

PHONE = {"width": 390, "height": 844}


@contextlib.contextmanager
def chromium() -> Iterator[Callable[..., Browser]]:
    """Starts browsers with flags of their own; all of them end with the context."""
    required("chromium", package="chromium")
    with sync_playwright() as playwright, contextlib.ExitStack() as stack:

        def launch(*flags: str) -> Browser:
            everywhere = ["--no-sandbox", "--disable-dev-shm-usage"]
            browser = playwright.chromium.launch(executable_path=which("chromium"), args=[*everywhere, *flags])
            return stack.enter_context(browser)

        yield launch
