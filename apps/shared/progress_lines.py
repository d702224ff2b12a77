"""Progress where no terminal shows a bar, as in a pipe or in CI: a line whenever a person has waited for one.

A stage that is done at once says nothing; of one that lasts there is a line after `FIRST_S`, then ever more seldom.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rexnet_export.pipeline.core.progress import Bar

LOADING_S, FIRST_S, SELDOM_S = 1.0, 2.0, 30.0
LOOK_EVERY_S = 0.25


class ProgressLines:
    """Says what goes on through `say`, from a thread of its own, while it is open as a context."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="progress lines")
        self._turn_to("loading", LOADING_S)

    def __enter__(self) -> ProgressLines:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Say no more."""
        self._closed.set()
        self._thread.join()

    @contextmanager
    def stage(self, title: str, total: int, unit: str) -> Iterator[Bar]:
        """A stage that is spoken of while it lasts; one around it is again when this ends."""
        bar, around = _LineBar(title, total, unit), self._activity
        self._turn_to(bar, FIRST_S)
        try:
            yield bar
        finally:
            self._turn_to(around if isinstance(around, _LineBar) else f"after {title}", FIRST_S)

    def _turn_to(self, activity: _LineBar | str, first_s: float) -> None:
        with self._lock:
            self._activity, self._interval = activity, first_s
            self._began = self._said = time.monotonic()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            with self._lock:
                now = time.monotonic()
                if now - self._said < self._interval:
                    continue
                line = f"{self._activity} ... {now - self._began:.0f} s"
                self._said, self._interval = now, min(2 * max(self._interval, FIRST_S), SELDOM_S)
            self._say(line)


@dataclass
class _LineBar:
    """A running stage, and the line of it."""

    title: str
    total: int
    unit: str
    done: int = 0
    note: str = ""

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self.note = note or self.note

    def __str__(self) -> str:
        note = f", {self.note}" if self.note else ""
        return f"{self.title}: {self.done:,} of {self.total:,} {self.unit}{note}"
