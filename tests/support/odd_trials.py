"""Work for trials that run in other processes, which must be able to import it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from rexnet_export.apps.shared.trials.telling import told_stages
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.machine.environment import usable_cores


def doubled(number: int) -> int:
    match number:
        case 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case 2:
            raise CheckpointError("it is damaged")
        case 3:
            raise ZeroDivisionError("a fault of ours")
    return 2 * number


def telling(number: int) -> int:
    """Two stages of two steps, then as `doubled`."""
    progress = told_stages()
    for title in ("one", "two"):
        with progress.stage(title, 2, "steps") as bar:
            bar.advance()
            progress.note("a line for a person")
            bar.advance()
    return doubled(number)


def cores_and_folder(_: int) -> tuple[int, str, str | None]:
    return usable_cores(), tempfile.gettempdir(), os.environ.get("SWEPT")


def forever_or_not(folder: Path | None) -> None:
    """Without a folder it ends at once."""
    if folder is not None:
        (folder / str(os.getpid())).touch()
        time.sleep(600)
