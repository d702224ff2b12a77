"""What one client may take of the page's server, and which names it may call it by."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter, deque
from ipaddress import ip_address

MOST_CONNECTIONS, MOST_OF_ONE = 64, 16  # a browser opens about six to one server
MOST_REQUESTS, WINDOW_S = 400, 10.0  # a page loads some dozens of files, and says something every second
HEAD_S, UPLOAD_S = 15.0, 300.0  # seconds until a request's head, and an upload, must be there whole
AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?")


class Limits:
    """Open connections, and the requests of the last seconds, by address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._requests: dict[str, deque[float]] = {}

    def enter(self, address: str) -> bool:
        """Whether the address may have one more connection; then `leave` ends it."""
        with self._lock:
            if self._open.total() >= MOST_CONNECTIONS or self._open[address] >= MOST_OF_ONE:
                return False
            self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection was closed."""
        with self._lock:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def request(self, address: str) -> bool:
        """Whether the address may ask once more now."""
        now = time.monotonic()
        with self._lock:
            if len(self._requests) > MOST_CONNECTIONS:
                self._requests = {key: times for key, times in self._requests.items() if now - times[-1] < WINDOW_S}
            times = self._requests.setdefault(address, deque())
            while times and now - times[0] > WINDOW_S:
                times.popleft()
            times.append(now)
            return len(times) <= MOST_REQUESTS


def is_own(authority: str, host: str, port: int) -> bool:
    """Whether a Host header names this server: by an address, or by a name that no foreign page can bring to it.

    A page of somebody else can have a name of its own lead here, but it cannot change what its browser sends.
    """
    match = AUTHORITY.fullmatch(authority)
    if match is None or int(match.group(2) or 80) != port:
        return False
    name = match.group(1).strip("[]").lower()
    try:
        ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return name in {"localhost", host.lower(), own, f"{own.partition('.')[0]}.local"}
    return True
