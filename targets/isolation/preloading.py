"""What a target may offer besides the protocol, so that less is imported, and its files are opened sooner."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol, runtime_checkable

from rexnet_export.targets import TARGETS


@runtime_checkable
class Preloads(Protocol):
    """A target that knows what opening its files imports."""

    def preload(self) -> None:
        """Import that, in a process of our own where no thread imports meanwhile; no thread may be left running."""


def preload(name: str) -> None:
    """Import what a target's files take, where it says so; what cannot be imported is told when a file is opened."""
    with suppress(Exception):
        target = TARGETS[name]
        if isinstance(target, Preloads):
            target.preload()
