"""Where a person's files are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from rexnet_export.pipeline.core.errors import UsageError


def cache_folder(name: str) -> Path:
    """This user's folder for `name`, which need not exist yet (XDG Base Directory Specification)."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "rexnet-export" / name
    try:
        return Path.home() / ".cache" / "rexnet-export" / name
    except RuntimeError as error:  # as in a container whose user has no entry and no HOME
        raise UsageError(
            "this user has no home folder; set HOME or XDG_CACHE_HOME to one that can be written"
        ) from error
