"""A small web server for one browser: a token in the address, a session for who comes first, and named files only."""

from __future__ import annotations

import json
import queue
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rexnet_export.apps.bench.browser.limits import HEAD_S, UPLOAD_S, Limits, is_own
from rexnet_export.apps.bench.browser.site import COOKIE, Access, Event, Serving, Site
from rexnet_export.pipeline.core.errors import ConversionError, ExportError, UsageError
from rexnet_export.pipeline.core.strict_json import strict_loads

MOST_NEWS, MOST_RESULT = 2**12, 64 * 2**20  # bytes of an upload
MOST_LENGTH_DIGITS = 12
SOCKET_S = 60  # no request may keep a thread for longer without sending anything
PIECE = 2**20
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    # These two isolate the page, without which a browser gives it no threads and only a coarse clock.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@contextmanager
def serving(site: Site, host: str, port: int) -> Iterator[Serving]:
    """Serve while the context is open; port 0 is any free one."""
    access, events = Access(), queue.Queue[Event]()

    class Handler(_Handler):
        pass

    Handler.site, Handler.access, Handler.events, Handler.host = site, access, events, host
    try:
        server = _Server((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {host}:{port} ({error}); name another --host or --port") from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield Serving(url=f"http://{_address(host)}:{server.server_port}/{access.token}/", events=events)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _address(host: str) -> str:
    """What a browser has to call it; for all interfaces, this machine's address in its own network."""
    if host not in ("0.0.0.0", ""):  # noqa: S104 - compared, not bound
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of documentation; nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self.limits = Limits()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's types
        """Give the connection a thread of its own, or close it where there are too many."""
        if self.limits.enter(client_address[0]):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Serve it until it is closed."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.limits.leave(client_address[0])

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's types
        """A browser may hang up whenever it likes."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Requests of one server; `serving` gives its subclass what it works on."""

    site: Site
    access: Access
    events: queue.Queue[Event]
    host: str
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "rexnet-bench", ""
    timeout = SOCKET_S

    def handle_one_request(self) -> None:
        """Answer a request whose head is there in time; whoever says nothing for so long is cut off."""
        self._watch = threading.Timer(HEAD_S, self._cut_off)
        self._watch.daemon = True
        self._watch.start()
        try:
            super().handle_one_request()
        finally:
            self._watch.cancel()

    def _cut_off(self) -> None:
        with suppress(OSError):  # it has left
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        """The page, then settings and files."""
        name = self._name()
        if name is None:
            return
        if name in self.site.page:
            self._send(200, self.site.page[name], TYPES[Path(name).suffix])
        elif not self._has_session():
            return
        elif name == "run.json":
            self._json(200, self.site.settings)
        elif name in self.site.files:
            self._file(self.site.files[name])
        else:
            self._refuse(404, "there is no such file")

    def do_POST(self) -> None:
        """Take the session, hear how a run goes on, take its result."""
        name = self._name()
        if name == "session":
            self._open_session()
        elif name in ("news", "left", "result") and self._has_session():
            content = self._content(MOST_RESULT if name == "result" else MOST_NEWS)
            if content is not None:
                {"news": self._news, "left": self._left, "result": self._result}[name](content)
        elif name is not None and name not in ("news", "left", "result"):
            self._refuse(404, "nothing can be sent there")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the address of every request holds the token."""

    def _open_session(self) -> None:
        if self._content(MOST_NEWS) is None:
            return
        cookies = self.headers.get("Cookie", "")
        if not self.access.knows(cookies) and not self.access.take():
            self._refuse(403, "this address was opened in another browser; start rexnet-bench again for a new one")
            return
        self.events.put(Event(kind="opened", content={"user_agent": self.headers.get("User-Agent", "")[:300]}))
        cookie = f"{COOKIE}={self.access.session}; Path=/{self.access.token}/; HttpOnly; SameSite=Strict"
        self._send(200, b"{}", TYPES[".json"], {"Set-Cookie": cookie})

    def _news(self, content: bytes) -> None:
        news = _object(content)
        if news is None:
            self._refuse(400, "that is no JSON object")
            return
        self.events.put(Event(kind="news", content=news))
        self._json(200, {})

    def _left(self, _content: bytes) -> None:
        self.events.put(Event(kind="left", content={}))
        self._json(200, {})

    def _result(self, content: bytes) -> None:
        try:
            result = self.site.accept(content)
        except ExportError as error:
            self._refuse(422, str(error))
            return
        except Exception as error:
            self._refuse(500, f"unexpected {type(error).__name__}; report it")
            raise
        self._json(200, result)
        self.events.put(Event(kind="result", content=result))

    def _name(self) -> str | None:
        """What is asked for below the token; None after a refusal."""
        self._watch.cancel()
        if not self.server.limits.request(self.client_address[0]):
            self._refuse(429, "too many requests; wait a little")
            return None
        if not self._is_for_us():
            self._refuse(403, "this address was called by a name, or from a page, that is not rexnet-bench's")
            return None
        token, _, name = self.path.partition("?")[0].removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.access.token.encode()):
            self._refuse(403, "this address holds no valid token; use the one that rexnet-bench shows")
            return None
        return name or "index.html"

    def _is_for_us(self) -> bool:
        """Whether the browser asks this server, and for this server's own page."""
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or not is_own(hosts[0], self.host, self.server.server_port):
            return False
        return all(origin == f"http://{hosts[0]}" for origin in origins)

    def _has_session(self) -> bool:
        if self.access.knows(self.headers.get("Cookie", "")):
            return True
        self._refuse(403, "open the page first")
        return False

    def _content(self, most: int) -> bytes | None:
        """An upload's bytes; None after a refusal."""
        lengths = self.headers.get_all("Content-Length", [])
        length = lengths[0] if len(lengths) == 1 else ""
        if not length.isascii() or not length.isdigit() or "Transfer-Encoding" in self.headers:
            self._refuse(411, "an upload has to say how long it is")
            return None
        if len(length) > MOST_LENGTH_DIGITS or int(length) > most:
            self._refuse(413, f"an upload of {length[:20]} bytes is more than the {most} that are taken")
            return None
        content = self._received(int(length))
        if len(content) != int(length):
            self._refuse(400, "the upload ended early, or came too slowly")
            return None
        return content

    def _received(self, length: int) -> bytes:
        """As many bytes of an upload as come in time."""
        content, deadline = bytearray(), time.monotonic() + UPLOAD_S
        while len(content) < length and time.monotonic() < deadline:
            piece = self.rfile.read1(min(PIECE, length - len(content)))
            if not piece:
                break
            content += piece
        return bytes(content)

    def _refuse(self, status: int, why: str) -> None:
        # The rest of an upload was not read, so the connection cannot go on.
        self.close_connection = True
        self._send(status, json.dumps({"error": why}).encode(), TYPES[".json"], {"Connection": "close"})

    def _json(self, status: int, value: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), TYPES[".json"])

    def _file(self, path: Path) -> None:
        with path.open("rb") as stream:
            self._head(200, path.stat().st_size, TYPES.get(path.suffix, "application/octet-stream"), {})
            while piece := stream.read(PIECE):
                self.wfile.write(piece)

    def _send(self, status: int, content: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
        self._head(status, len(content), kind, more or {})
        self.wfile.write(content)

    def _head(self, status: int, length: int, kind: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(length), **more}.items():
            self.send_header(name, value)
        self.end_headers()


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        value = strict_loads(content)
    except ConversionError:
        return None
    return value if isinstance(value, dict) else None
