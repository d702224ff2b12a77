"""How long stages tell that they move; what is shown, and where, is the caller's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a run is: so many of a stage's units are done; without a stage, a `note` that a person should read."""

    stage: str
    done: int
    total: int
    unit: str
    note: str


class Told:
    """Calls a function with each step of a run; what the function raises ends the run."""

    def __init__(self, tell: Callable[[Step], object]) -> None:
        self._tell = tell

    @contextmanager
    def stage(self, title: str, total: int, unit: str) -> Iterator[Bar]:
        """Tell that the stage begins, and every advance."""
        bar = _ToldBar(self._tell, Step(stage=title, done=0, total=total, unit=unit, note=""))
        bar.advance(0)
        yield bar

    def note(self, text: str) -> None:
        """Tell a line."""
        self._tell(Step(stage="", done=0, total=0, unit="", note=text))


class _ToldBar:
    def __init__(self, tell: Callable[[Step], object], step: Step) -> None:
        self._tell, self._step = tell, step

    def advance(self, count: int = 1, note: str = "") -> None:
        self._step = replace(self._step, done=self._step.done + count, note=note)
        self._tell(self._step)


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
