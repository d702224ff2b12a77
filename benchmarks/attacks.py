"""Attack what writes and what reads: kills at random moments, a fault at every call, hostile inputs.

    python benchmarks/attacks.py [--kills 200] [--inputs 10000] [--requests 500]

Prints a table of attack, cases, failures and the largest memory of the process. A failure is a result that is lost or
mixed, an error of another kind than the reader promises, or an answer that does not come.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from faults import Fault, at_every_call
from manifests import vouch

from rexnet_export.apps.bench.browser.server import serving
from rexnet_export.apps.bench.browser.site import Site
from rexnet_export.pipeline.artifact.export_folder import altered, require_whole
from rexnet_export.pipeline.core.array_files import parse_array, read_arrays
from rexnet_export.pipeline.core.errors import ConversionError, ExportError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.strict_json import strict_loads
from rexnet_export.pipeline.export.publish import publish, staging

FILES = 12


def export(output: Path, version: str) -> None:
    """A small export, each file of which says of which version it is."""
    with staging(output, Silent()) as folder:
        for number in range(FILES):
            (folder / f"file-{number}").write_text(version * 1000)
        vouch(folder)
        publish(folder, output, Silent())


def is_whole(output: Path) -> bool:
    """Whether the folder is one export; the manifest says which."""
    return not altered(output) and (output / "file-0").read_text() != ""


def random_kills(folder: Path, count: int, rng: random.Random) -> tuple[int, int]:
    """Publish again and again in a process that is killed at a random moment."""
    output, failures = folder / "out", 0
    export(output, "old")
    for _ in range(count):
        before = output.stat().st_ino
        child = os.fork()
        while not child:
            export(output, "new")
        while output.stat().st_ino == before:
            time.sleep(0.0005)  # until it has published once
        time.sleep(rng.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        failures += not is_whole(output)
    export(output, "new")
    return count, failures + sum(path != output for path in folder.iterdir())


def faults(folder: Path, fault: Fault) -> tuple[int, int]:
    """Publish once for each call to the file system, which fails or is the last."""
    output, failures = folder / "out", 0

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        export(output, "old")

    def check() -> None:
        nonlocal failures
        failures += not is_whole(output)

    return at_every_call(prepare, lambda: export(output, "new"), check, folder, fault), failures


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, repeated, or put in."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if place < len(data):
                data[place] = rng.randrange(256)
            case 1:
                del data[place : place + rng.randint(1, 40)]
            case 2:
                data[place:place] = data[place : place + rng.randint(1, 40)] * rng.randint(1, 50)
            case 3:
                data[place:place] = rng.choice([b"[" * 3000, b"9" * 5000, b"\0", b"1e999", b"{", b'"', b"-"])
            case _:
                data[place:place] = rng.randbytes(rng.randint(1, 8))
    return bytes(data)


def fuzzed(
    read: Callable[[bytes], object], seed: bytes, expected: tuple[type[Exception], ...], count: int, rng: random.Random
) -> tuple[int, int]:
    """Mutations of something good, each read."""
    failures = 0
    for _ in range(count):
        try:
            read(mutated(seed, rng))
        except expected:
            continue
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            failures += 1
    return count, failures


def requests(count: int, rng: random.Random) -> tuple[int, int]:
    """Requests that are none, to a page's server; each is answered or cut off, and the server lives."""
    site = Site(page={"index.html": b"page"}, files={}, settings={}, accept=lambda _: {})
    good = b"POST /TOKEN/session HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 2\r\n\r\n{}"
    failures = 0
    with serving(site, "127.0.0.1", 0) as served:
        parts = urlsplit(served.url)
        whole = good.replace(b"TOKEN", parts.path.strip("/").encode()).replace(b"PORT", str(parts.port).encode())
        for _ in range(count):
            try:
                with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
                    connection.sendall(mutated(whole, rng))
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
            except ConnectionError:
                continue
            except TimeoutError:
                failures += 1
        time.sleep(11)  # the window of requests
        page = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        page.request("GET", parts.path)
        failures += page.getresponse().status != 200
    return count, failures


def attacks(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, tuple[int, int]]]:
    """Every attack, and how it ended."""
    rng = random.Random(options.seed)  # noqa: S311 - attacks are repeated, not guessed
    (made := folder / "made").mkdir()
    for number in range(5):
        (made / f"m{number}.ort").write_text("m" * number)
    table = (vouch(made) / "manifest.json").read_bytes()
    np.savez_compressed(folder / "seed.npz", a=np.arange(50), b=np.array(["x", "yy"]))
    np.save(folder / "seed.npy", np.arange(50, dtype=np.float32))
    each, where = options.inputs // 4, folder / "fuzzed"
    where.mkdir()

    def read_npz(content: bytes) -> None:
        (where / "a.npz").write_bytes(content)
        read_arrays(where / "a.npz", 2**20)

    def read_manifest(content: bytes) -> None:
        (where / "manifest.json").write_bytes(content)
        require_whole(where)

    yield "publishing, killed at random moments", random_kills(folder / "kills", options.kills, rng)
    yield "publishing, killed at every call", faults(folder / "every", "kill")
    yield "publishing, every call fails", faults(folder / "fails", "fail")
    yield "JSON, mutated", fuzzed(strict_loads, table, (ConversionError,), each, rng)
    yield ".npy, mutated", fuzzed(parse_array, (folder / "seed.npy").read_bytes(), (ValueError,), each, rng)
    yield ".npz, mutated", fuzzed(read_npz, (folder / "seed.npz").read_bytes(), (ValueError, OSError), each, rng)
    yield "manifest.json, mutated", fuzzed(read_manifest, table, (ExportError,), each, rng)
    yield "requests to the page's server, mutated", requests(options.requests, rng)


def main() -> int:
    """Run all; the exit code is 1 where something failed."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--kills", type=int, default=200)
    p.add_argument("--inputs", type=int, default=10_000)
    p.add_argument("--requests", type=int, default=500)
    p.add_argument("--seed", type=int, default=0)
    options = p.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    lost = 0
    print("| attack | cases | failures | largest memory |\n|---|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for attack, (cases, failures) in attacks(Path(name), options):
            lost += failures
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            print(f"| {attack} | {cases:,} | {failures} | {memory:,.0f} MiB |", flush=True)
    return os.EX_OK if not lost else 1


if __name__ == "__main__":
    sys.exit(main())
