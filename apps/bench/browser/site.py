"""What a browser is served and what it does there; who came first is the one who may go on."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, Literal

COOKIE = "rexnet-bench"


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a browser did: opened the page, went on with a run, left, or sent a result that was taken."""

    kind: Literal["opened", "news", "left", "result"]
    content: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is served: the page to whoever has the token; settings and files to the session alone.

    `accept` makes a result of an upload, or raises an `ExportError` that the page is told.
    """

    page: Mapping[str, bytes]
    files: Mapping[str, Path]
    settings: Mapping[str, Any]
    accept: Callable[[bytes], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A running server: where it is, and what happens there."""

    url: str
    events: queue.Queue[Event]


@dataclass(kw_only=True)
class Access:
    """The token of the address, and the session of the browser that came first."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    lock: threading.Lock = field(default_factory=threading.Lock)
    taken: bool = False

    def take(self) -> bool:
        """Whether this caller is the first."""
        with self.lock:
            first, self.taken = not self.taken, True
        return first

    def knows(self, cookies: str) -> bool:
        """Whether a request comes from the browser that has the session."""
        try:
            found = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return False
        return found is not None and secrets.compare_digest(found.value.encode(), self.session.encode())
