"""Browser runtimes are the files that were pinned, or they are not used."""

import base64
import hashlib
import io
import re
import tarfile
import urllib.error
from pathlib import Path

import pytest

from rexnet_export.apps.bench.browser import runtimes as module
from rexnet_export.apps.bench.browser.runtimes import Package, pinned, web_runtimes
from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.progress import Silent

MEMBERS = {"package/a.js": b"run()", "package/index.js": b'import { x } from "@litertjs/wasm-utils";'}
KEPT = {"a.js": b"run()", "litert.js": b'import { x } from "./litert-wasm-utils.js";'}


def tarball() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in {**MEMBERS, "package/../../evil": b"evil"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


class Network:
    """A registry that answers with `content`, or not at all."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content
        self.asked: list[str] = []

    def __call__(self, url: str, timeout: float) -> io.BytesIO:  # noqa: ARG002 - the real one's parameter
        self.asked.append(url)
        if self.content is None:
            raise urllib.error.URLError("no route")
        return io.BytesIO(self.content)


def package(content: bytes) -> Package:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in KEPT.items()}
    return Package(
        name="@scope/thing",
        version="1.2.3",
        integrity="sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode(),
        files={
            "a.js": ("package/a.js", digests["a.js"]),
            "litert.js": ("package/index.js", digests["litert.js"]),
        },
    )


def test_pins_name_everything() -> None:
    for found in pinned():
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", found.integrity)
        assert found.url.startswith(f"https://registry.npmjs.org/{found.name}/-/")
        assert found.url.endswith(f"-{found.version}.tgz")
        for name, (_, digest) in found.files.items():
            assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
            assert re.fullmatch(r"[0-9a-f]{64}", digest)


def test_fetched_once_and_again_when_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(tarball())
    monkeypatch.setattr(module.urllib.request, "urlopen", network)
    wanted, cache = package(network.content), tmp_path / "cache"
    for _ in range(2):
        found = web_runtimes((wanted,), cache, Silent())
    assert network.asked == ["https://registry.npmjs.org/@scope/thing/-/thing-1.2.3.tgz"]
    assert {name: path.read_bytes() for name, path in found.items()} == KEPT
    found["a.js"].write_bytes(b"steal()")
    assert web_runtimes((wanted,), cache, Silent())["a.js"].read_bytes() == b"run()"
    assert len(network.asked) == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.js", "cache", "litert.js"]


# Names of their own: pytest would name the cases by the archive's bytes, which hold the time it was made.
@pytest.mark.parametrize(
    "content", [b"something else", tarball()[:-1], None], ids=["another file", "cut short", "no network"]
)
def test_what_was_not_pinned_is_not_kept(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = package(tarball())
    monkeypatch.setattr(module.urllib.request, "urlopen", Network(content))
    with pytest.raises(TargetUnavailable, match="cannot be fetched" if content is None else "not the package"):
        web_runtimes((wanted,), tmp_path, Silent())
    assert not list(tmp_path.iterdir())
