"""Folders that tell whether whoever works in them lives: the system gives up a lock when its process ends, however."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Wait for the folder and hold it; where it was replaced meanwhile, hold the one that now has its name."""
    while True:
        descriptor = _opened(folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is(folder, descriptor):
                continue
            yield
            return
        finally:
            os.close(descriptor)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold a new folder, wherever it is moved, so that nobody takes it for a dead one's."""
    descriptor = _opened(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_owned(folder: Path) -> bool:
    """Whether somebody who lives holds the folder."""
    try:
        descriptor = _opened(folder)
    except OSError:  # gone meanwhile, or nobody's business
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _is(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
