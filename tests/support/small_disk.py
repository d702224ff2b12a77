"""Work on a disk that is soon full: a real one, which only the thread that works sees."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rexnet_export.apps.shared.trials.outcome import Failed, attempted


def on_small_disk[Result](work: Callable[[], Result], folder: Path, room: int) -> tuple[Result | Failed, list[str]]:
    """How the work ends where `folder`, which temporary files go to as well, has so many bytes; what is in it then."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as alone:
        patch.setattr(tempfile, "tempdir", str(folder))
        if not alone.submit(_mounted, folder, room).result():
            pytest.skip("this system lets nobody mount a disk here")
        ended = alone.submit(lambda: attempted(work)).result()
        return ended, alone.submit(lambda: sorted(path.name for path in folder.iterdir())).result()


def _mounted(folder: Path, room: int) -> bool:
    """Whether this thread has its own view of the disks now, with one of so many bytes at the folder."""
    try:
        os.unshare(os.CLONE_NEWNS)
    except PermissionError:
        return False
    disk = ["tmpfs", str(folder), "--types", "tmpfs", "--options", f"size={room}"]
    return not any(
        subprocess.run(["mount", *words], check=False).returncode for words in (["--make-rprivate", "/"], disk)
    )
