"""How long stages tell that they move; what is shown, and where, is the caller's choice."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One running stage."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Say that `count` more units are done; `note` is shown beside the bar."""


class Progress(Protocol):
    """Receives the stages of a run."""

    def stage(self, title: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """Open a stage of `total` units; it ends with the context."""

    def note(self, text: str) -> None:
        """Say one line that stays."""


class Silent:
    """Shows nothing."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Drop the event."""

    @contextmanager
    def stage(self, title: str, total: int, unit: str) -> Iterator[Bar]:  # noqa: ARG002 - the protocol's parameters
        """Yield a bar that shows nothing."""
        yield self

    def note(self, text: str) -> None:
        """Drop the line."""


def counted[T: Sized](batches: Iterator[T], bar: Bar) -> Iterator[T]:
    """The same batches; the bar advances by each one's length when it has been used."""
    for batch in batches:
        yield batch
        bar.advance(len(batch))
