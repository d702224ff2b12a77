"""rexnet-bench as a process whose page a browser opens, and the page's npm packages."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from components import unavailable

from rexnet_export.apps.bench.browser.runtimes import default_cache, pinned, web_runtimes
from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.progress import Silent

COMMAND = [
    sys.executable,
    "-P",
    "-c",
    "import sys; from rexnet_export.apps.bench.command import main; sys.exit(main())",
]


def require_runtimes() -> None:
    """The page's npm packages, from the cache or the network."""
    try:
        web_runtimes(pinned(), default_cache(), Silent())
    except TargetUnavailable as error:
        unavailable(str(error))


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
        [*COMMAND, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores Ctrl-C and its children would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
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
