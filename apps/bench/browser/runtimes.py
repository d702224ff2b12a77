"""The runtimes of the browser page: npm packages of pinned versions and digests, fetched at first use and kept."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rexnet_export.pipeline.core.errors import TargetUnavailable
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import file_sha256, write_whole
from rexnet_export.pipeline.machine.cache_folder import cache_folder

LOCK = "web_runtimes.json"
REGISTRY = "https://registry.npmjs.org"
MOST_BYTES = 128 * 2**20
WAIT_S = 60
# Import maps need an inline script, which the page's policy forbids; so the one bare import is made relative.
BARE, RELATIVE = b'from "@litertjs/wasm-utils"', b'from "./litert-wasm-utils.js"'


@dataclass(frozen=True, kw_only=True)
class Package:
    """One npm package: its npm integrity, and for each file the page asks for its member and SHA-256 when kept."""

    name: str
    version: str
    integrity: str
    files: Mapping[str, tuple[str, str]]

    @property
    def url(self) -> str:
        """Where the registry keeps it."""
        return f"{REGISTRY}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


def pinned() -> tuple[Package, ...]:
    """The packages that the page was tested with."""
    lock = json.loads(files("rexnet_export.apps.bench.browser").joinpath(LOCK).read_text(encoding="utf-8"))
    return tuple(
        Package(
            name=name,
            version=entry["version"],
            integrity=entry["integrity"],
            files={served: (member["member"], member["sha256"]) for served, member in entry["files"].items()},
        )
        for name, entry in lock.items()
    )


def default_cache() -> Path:
    """Where fetched files are kept between runs."""
    return cache_folder("web")


def web_runtimes(packages: tuple[Package, ...], cache: Path, progress: Progress) -> dict[str, Path]:
    """Every file of the packages by the name the page asks for; what is missing or changed is fetched again."""
    with progress.stage("browser runtimes", len(packages), "packages") as bar:
        for package in packages:
            if not all(_is_whole(cache / name, digest) for name, (_, digest) in package.files.items()):
                _keep(package, _download(package), cache)
            bar.advance(note=package.name)
    return {name: cache / name for package in packages for name in package.files}


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and file_sha256(path) == digest


def _download(package: Package) -> bytes:
    """The package's tarball, no byte of which is believed before npm's integrity was compared."""
    try:
        with urllib.request.urlopen(package.url, timeout=WAIT_S) as answer:  # noqa: S310 - a constant https address
            content = bytes(answer.read(MOST_BYTES + 1))
    except (OSError, urllib.error.URLError) as error:
        raise TargetUnavailable(
            f"{package.name} {package.version} is needed once and cannot be fetched from {package.url} ({error}); "
            "connect to the network and try again"
        ) from error
    algorithm, _, expected = package.integrity.partition("-")
    found = base64.b64encode(hashlib.new(algorithm, content).digest()).decode()
    if found != expected:
        raise TargetUnavailable(
            f"{package.url} is not the package that was pinned ({algorithm} is {found[:16]}..., not "
            f"{expected[:16]}...); nothing of it was kept. Fetch it over another network"
        )
    return content


def _keep(package: Package, content: bytes, cache: Path) -> None:
    """Only the members that were named are read, and written below names of our own."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for name, (member, digest) in package.files.items():
                stream = archive.extractfile(member)
                original = stream.read() if stream else b""
                write_whole(cache / name, original.replace(BARE, RELATIVE) if name == "litert.js" else original)
                if not _is_whole(cache / name, digest):
                    raise TargetUnavailable(f"{package.name}: {member} is not the file that was pinned; report it")
    except OSError as error:
        raise TargetUnavailable(f"{cache} cannot be written ({error.strerror}); set XDG_CACHE_HOME") from error
