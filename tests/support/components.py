"""Programs that tests need beside Python: where one is missing a test is skipped, and fails in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def required(*commands: str, package: str) -> None:
    """Commands of one Debian package."""
    missing = [name for name in commands if shutil.which(name) is None]
    if missing:
        unavailable(f"{', '.join(missing)} not installed; apt-get install {package}")


def unavailable(reason: str) -> NoReturn:
    """End the test for want of something."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"required in CI: {reason}")
    pytest.skip(reason)
