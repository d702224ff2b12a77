"""The page's server: nothing without the token, files for the first browser alone, and no upload it did not ask for."""

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rexnet_export.apps.bench.browser import limits, server
from rexnet_export.apps.bench.browser.server import serving
from rexnet_export.apps.bench.browser.site import Serving, Site
from rexnet_export.pipeline.core.errors import DeviceError, UsageError

MOST_NEWS = 2**12
MOST_RESULT = 64 * 2**20


def accept(content: bytes) -> Mapping[str, object]:
    if content == b"unexpected":
        raise ZeroDivisionError
    if content != b"good":
        raise DeviceError("the upload is bad; run again")
    return {"taken": True}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.bin").write_bytes(b"model")
    (tmp_path / "secret").write_bytes(b"secret")
    site = Site(
        page={"index.html": b"<html>", "main.js": b"run()"},
        files={"bundle/model.bin": tmp_path / "folder" / "model.bin"},
        settings={"images": 3},
        accept=accept,
    )
    with serving(site, "127.0.0.1", 0) as running:
        yield running


def ask(
    served: Serving, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """`path` is sent as it is; TOKEN in it stands for the token."""
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    connection.request(method, path.replace("TOKEN", parts.path.strip("/")), body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def session(served: Serving) -> str:
    status, headers, _ = ask(served, "POST", "/TOKEN/session", b"{}")
    assert status == 200
    return headers["Set-Cookie"].partition(";")[0]


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/index.html", "/TOKENx/", "/%54OKEN/", "/index.html"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_without_the_token(served: Serving, method: str, path: str) -> None:
    status, _, content = ask(served, method, path, b"{}" if method == "POST" else None)
    assert status == 403
    assert b"token" in content
    assert served.events.empty()


def test_token_is_new_every_time(served: Serving) -> None:
    site = Site(page={}, files={}, settings={}, accept=accept)
    with serving(site, "127.0.0.1", 0) as other:
        assert urlsplit(other.url).path != urlsplit(served.url).path
        assert len(urlsplit(other.url).path) > 20


def test_page_is_isolated_and_guarded(served: Serving) -> None:
    for path, status in (("/TOKEN/", 200), ("/TOKEN/main.js", 200), ("/TOKEN/none", 403), ("/", 403)):
        found, headers, _ = ask(served, "GET", path)
        assert found == status
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(served, "GET", "/TOKEN/main.js")[1]["Content-Type"].startswith("text/javascript")


def test_first_browser_alone_gets_files(served: Serving) -> None:
    for path in ("/TOKEN/run.json", "/TOKEN/bundle/model.bin"):
        assert ask(served, "GET", path)[0] == 403
        assert ask(served, "GET", path, Cookie="rexnet-bench=guess")[0] == 403
    cookie = session(served)
    assert ask(served, "GET", "/TOKEN/bundle/model.bin", Cookie=cookie)[::2] == (200, b"model")
    assert json.loads(ask(served, "GET", "/TOKEN/run.json", Cookie=cookie)[2]) == {"images": 3}
    status, headers, content = ask(served, "POST", "/TOKEN/session", b"{}")
    assert status == 403
    assert b"another browser" in content
    assert "Set-Cookie" not in headers
    assert ask(served, "POST", "/TOKEN/session", b"{}", Cookie=cookie)[0] == 200, "the same browser after a reload"


@pytest.mark.parametrize(
    "path",
    [
        "/TOKEN/../secret",
        "/TOKEN/bundle/../../secret",
        "/TOKEN/bundle/%2e%2e/%2e%2e/secret",
        "/TOKEN/bundle\\..\\..\\secret",
        "/TOKEN//etc/passwd",
        "/TOKEN/bundle/",
        "/TOKEN/bundle/model.bin/",
        "/TOKEN/%00",
    ],
)
def test_nothing_but_named_files(served: Serving, path: str) -> None:
    status, _, content = ask(served, "GET", path, Cookie=session(served))
    assert status == 404
    assert b"secret" not in content


def test_uploads_are_limited(served: Serving) -> None:
    cookie = session(served)
    for path, most in (("/TOKEN/result", MOST_RESULT), ("/TOKEN/news", MOST_NEWS), ("/TOKEN/left", MOST_NEWS)):
        # Refused by the length it claims: nothing of it is read.
        assert ask(served, "POST", path, b"", Cookie=cookie, **{"Content-Length": str(most + 1)})[0] == 413
        assert ask(served, "POST", path, b"", Cookie=cookie, **{"Content-Length": "-1"})[0] == 411
        assert ask(served, "POST", path, b"0", Cookie=cookie, **{"Transfer-Encoding": "chunked"})[0] == 411
    assert ask(served, "POST", "/TOKEN/elsewhere", b"good", Cookie=cookie)[0] == 404
    assert ask(served, "POST", "/TOKEN/result", b"good")[0] == 403, "a result without a session"
    assert [served.events.get().kind for _ in range(served.events.qsize())] == ["opened"]


def test_results_are_judged(served: Serving) -> None:
    cookie = session(served)
    status, _, content = ask(served, "POST", "/TOKEN/result", b"bad", Cookie=cookie)
    assert status == 422
    assert json.loads(content) == {"error": "the upload is bad; run again"}
    assert ask(served, "POST", "/TOKEN/news", b"[1]", Cookie=cookie)[0] == 400
    assert ask(served, "POST", "/TOKEN/news", b'{"part": 0.5}', Cookie=cookie)[0] == 200
    assert ask(served, "POST", "/TOKEN/left", b"{}", Cookie=cookie)[0] == 200
    assert ask(served, "POST", "/TOKEN/result", b"good", Cookie=cookie)[::2] == (200, b'{"taken": true}')
    events = [served.events.get() for _ in range(4)]
    assert [event.kind for event in events] == ["opened", "news", "left", "result"]
    assert events[1].content == {"part": 0.5}


def test_half_an_upload_is_none(served: Serving) -> None:
    cookie, parts = session(served), urlsplit(served.url)
    with socket.create_connection((parts.hostname, parts.port), 20) as hanging_up:
        head = f"POST {parts.path}result HTTP/1.1\r\nHost: {parts.netloc}\r\nCookie: {cookie}\r\n"
        hanging_up.sendall(f"{head}Content-Length: 4\r\n\r\ngo".encode())
        hanging_up.shutdown(socket.SHUT_WR)
        assert b" 400 " in hanging_up.recv(1000)
    assert [served.events.get().kind for _ in range(served.events.qsize())] == ["opened"]


def test_only_the_named_interface_is_bound(served: Serving) -> None:
    parts = urlsplit(served.url)
    assert parts.hostname == "127.0.0.1"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", parts.port), 2)
    with (
        pytest.raises(UsageError, match="cannot listen on"),
        serving(Site(page={}, files={}, settings={}, accept=accept), "127.0.0.1", parts.port),
    ):
        pass


def raw(served: Serving, head: str, body: bytes = b"") -> str:
    """The first line that comes back for a request written by hand."""
    parts = urlsplit(served.url)
    text = head.replace("TOKEN", parts.path.strip("/")).replace("PORT", str(parts.port))
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(text.replace("\n", "\r\n").encode() + body)
        return connection.makefile("rb").readline().decode()


@pytest.mark.parametrize(
    "headers",
    [
        "Host: evil.example:PORT",
        "Host: 127.0.0.1:1",
        "Host: 127.0.0.1",
        "Host: 127.0.0.1:PORT\nHost: evil.example:PORT",
        "Host: 127.0.0.1:PORT@evil.example",
        "Host: 127.0.0.1:999999999",
        "Host:",
        "X: y",
        "Host: 127.0.0.1:PORT\nOrigin: http://evil.example",
        "Host: 127.0.0.1:PORT\nOrigin: null",
        "Host: 127.0.0.1:PORT\nOrigin: https://127.0.0.1:PORT",
    ],
)
def test_other_names_and_pages_are_refused(served: Serving, headers: str) -> None:
    assert " 403 " in raw(served, f"GET /TOKEN/ HTTP/1.1\n{headers}\n\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "192.168.1.7", "[::1]"])
def test_own_names_are_answered(served: Serving, host: str) -> None:
    head = f"GET /TOKEN/ HTTP/1.1\nHost: {host}:PORT\nOrigin: http://{host}:PORT\n\n"
    assert " 200 " in raw(served, head)


@pytest.mark.parametrize(
    ("lengths", "status"),
    [
        ("Content-Length: -1", 411),
        ("Content-Length: +1", 411),
        ("Content-Length: 0x10", 411),
        ("Content-Length: 1e3", 411),
        ("Content-Length: 2\nContent-Length: 3", 411),
        ("Content-Length: \u0662", 411),
        ("Transfer-Encoding: chunked", 411),
        (f"Content-Length: {'9' * 5000}", 413),
        ("X: y", 411),
    ],
)
def test_lengths_that_are_none_are_answered(served: Serving, lengths: str, status: int) -> None:
    head = f"POST /TOKEN/session HTTP/1.1\nHost: 127.0.0.1:PORT\n{lengths}\n\n"
    assert f" {status} " in raw(served, head)


def test_a_client_that_says_nothing_is_cut_off(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    assert raw(served, "GET /TOKEN/ HTTP/1.1\nHost: 127.0.0.1:PORT\nX: ") == ""


def test_an_upload_that_does_not_end_is_cut_off(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UPLOAD_S", 0.0)
    head = "POST /TOKEN/session HTTP/1.1\nHost: 127.0.0.1:PORT\nContent-Length: 2\n\n"
    assert " 400 " in raw(served, head, b"{")


def test_one_client_has_so_many_connections(served: Serving) -> None:
    parts = urlsplit(served.url)
    with ExitStack() as opened:
        for _ in range(16):
            opened.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=20))
        assert raw_or_reset(served) == ""
    deadline = time.monotonic() + 20
    while " 200 " not in raw_or_reset(served):
        assert time.monotonic() < deadline


def raw_or_reset(served: Serving) -> str:
    try:
        return raw(served, "GET /TOKEN/ HTTP/1.1\nHost: 127.0.0.1:PORT\n\n")
    except ConnectionError:
        return ""


def test_one_client_may_ask_so_often(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_REQUESTS", 3)
    statuses = [ask(served, "GET", "/TOKEN/")[0] for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]


def test_an_unexpected_failure_is_answered(served: Serving) -> None:
    cookie = session(served)
    assert ask(served, "POST", "/TOKEN/result", b"unexpected", Cookie=cookie)[0] == 500


@pytest.mark.parametrize("content", [b"[" * 4000, b"1" * 4000, b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff", b""])
def test_news_that_are_none_are_answered(served: Serving, content: bytes) -> None:
    cookie = session(served)
    assert ask(served, "POST", "/TOKEN/news", content, Cookie=cookie)[0] == 400
