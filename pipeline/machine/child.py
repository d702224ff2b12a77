"""Processes that end with the one that started them, even where that is killed.

`python -m rexnet_export.pipeline.machine.child PARENT MODULE ARGUMENTS...` runs a module so; `end_with_parent` is for
programs of our own.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
LOOK_EVERY_S = 1.0


def command(module: str, *arguments: str) -> list[str]:
    """How to start a module as a child of this process."""
    return [sys.executable, "-P", "-m", __name__, str(os.getpid()), module, *arguments]


def end_with_parent(parent: int) -> None:
    """Have this process killed when the one with the number `parent`, which started it, is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before it could be watched
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os._exit(1)


def main(argv: Sequence[str]) -> None:
    """Run the module as `python -m` would."""
    parent, module, *arguments = argv
    end_with_parent(int(parent))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
