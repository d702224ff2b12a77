"""Things that are made once for all test processes of a run, in a folder that all of them see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from rexnet_export.pipeline.core.records import Artifact, Precision

type ArtifactOf = Callable[[str, Precision, str], Artifact]


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, filled by the first process that asks for it; nobody may change what is in it.

    `make` gets a folder that does not exist yet. Where it fails, the next one to ask tries again.
    """
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    whole = folder.with_name(f"{folder.name}.whole")
    with FileLock(f"{folder}.lock"):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            whole.touch()
    return folder
