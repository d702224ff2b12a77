"""Debian's chromium without a screen, and rexnet-bench as a process whose page it opens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from shutil import which

import pytest
from playwright.sync_api import Browser, sync_playwright
from servers import required

from rexnet_export.pipeline.errors import TargetUnavailable
from rexnet_export.pipeline.progress import Silent
from rexnet_export.pipeline.web_runtimes import default_cache, pinned, web_runtimes

PHONE = {"width": 390, "height": 844}
COMMAND = [sys.executable, "-P", "-c", "import sys; from rexnet_export.apps.bench import main; sys.exit(main())"]


@contextlib.contextmanager
def chromium() -> Iterator[Callable[..., Browser]]:
    """Starts browsers with flags of their own; all of them end with the context."""
    required("chromium", package="chromium")
    with sync_playwright() as playwright, contextlib.ExitStack() as stack:

        def launch(*flags: str) -> Browser:
            place = which("chromium")
            return stack.enter_context(
                playwright.chromium.launch(
                    executable_path=place, args=["--no-sandbox", "--disable-dev-shm-usage", *flags]
                )
            )

        yield launch


def require_runtimes() -> None:
    """The page's npm packages, from the cache or the network."""
    try:
        web_runtimes(pinned(), default_cache(), Silent())
    except TargetUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"required in CI: {error}")
        pytest.skip(str(error))


@dataclass(frozen=True, kw_only=True)
class Started:
    """A running rexnet-bench, and the address it shows."""

    process: subprocess.Popen[str]
    url: str

    def ended(self) -> tuple[int, str]:
        """Wait for its end; exit code, and the rest of what it said."""
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said.replace("\n", " ")


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[Started]:
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stderr:
                if line.startswith("open "):
                    yield Started(process=process, url=line.removeprefix("open ").strip())
                    break
            else:
                pytest.fail("rexnet-bench ended without an address")
        finally:
            if process.poll() is None:
                process.kill()
