"""A bundle on the phone's browser: the page is served, and its results arrive."""

from __future__ import annotations

import argparse
import io
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.resources import files
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

import segno
from rich.console import Console

from rexnet_export.apps.bench.browser.result import accept
from rexnet_export.apps.bench.browser.runtimes import Package, default_cache, pinned, web_runtimes
from rexnet_export.apps.bench.browser.server import serving
from rexnet_export.apps.bench.browser.site import Event, Serving, Site
from rexnet_export.apps.bench.bundle.make_bundle import bundle_export
from rexnet_export.apps.bench.result.host_result import Bundle, unpacked
from rexnet_export.apps.bench.result.result import (
    require_new,
)
from rexnet_export.apps.shared.flags import refuse_given
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted, done
from rexnet_export.pipeline.core.errors import DataError, DeviceError, UsageError
from rexnet_export.pipeline.core.progress import Bar
from rexnet_export.pipeline.core.records import RGB
from rexnet_export.pipeline.core.strict_json import read_json
from rexnet_export.pipeline.core.text import printable

# The files a browser can run, and what runs them.
RUNTIMES = {".tflite": "litert.js", ".ort": "onnxruntime-web"}
NPM_NAMES = {"litert.js": "@litertjs/core", "onnxruntime-web": "onnxruntime-web"}
SILENCE_S = 60.0  # a phone that sleeps says nothing; a page that works says something every second
RELOAD_S = 5.0  # a page that was left may come back
PAGE = files("rexnet_export.apps.bench.browser").joinpath("page")
PARTS = 100


def serve(options: argparse.Namespace, terminal: Terminal) -> int:
    """Serve the page until Ctrl-C; every result that a browser sends becomes a folder."""
    numbering = threading.Lock()

    output: Path = options.output
    arrived = 0

    def place() -> Path:
        return next(path for n in count(1) if not (path := output / f"{n:03}").exists())

    with tempfile.TemporaryDirectory(prefix="rexnet-page-") as work:
        archive = options.folder
        if options.folder.is_dir():
            archive = Path(work) / "bundle.zip"
            bundle_export(options, tuple(RUNTIMES), archive, terminal)
        with (
            suppress(KeyboardInterrupt),
            _page(archive, options, place, numbering, terminal, starts=False) as served,
        ):
            terminal.note("Ctrl-C ends it")
            while True:
                event = _next(served.events)
                terminal.go_on()
                if event is not None and event.kind == "result":
                    arrived += 1
                    terminal.note(f"a result arrived in {output}: {_summary(event.content)}")
    if arrived:
        terminal.note(done(f"{counted(arrived, 'result')} in {output}", "two of them: rexnet-bench compare A B"))
    else:
        terminal.note(done("no result arrived", "open the address on a phone and press its button"))
    return 0


def run_in_browser(options: argparse.Namespace, terminal: Terminal) -> Mapping[str, Any]:
    """Serve the page, which starts by itself, until its result arrived; `DeviceError` where it stops before."""
    refuse_given(options, ("python", "sustained", "emulator"), "says nothing to a browser; leave it out")
    require_new(options.output)
    with (
        _page(options.bundle, options, lambda: options.output, threading.Lock(), terminal, starts=True) as served,
        terminal.stage("browser", PARTS, "%") as bar,
    ):
        return _awaited(served.events, options.timeout, bar)


def announce(messages: Console, url: str, host: str) -> None:
    """The address as text, and as a code for the phone's camera where a terminal can show it."""
    messages.print(f"open {url}", markup=False, soft_wrap=True)
    if messages.is_terminal:
        code = io.StringIO()
        segno.make(url).terminal(code, border=2, compact=True)
        messages.file.write(code.getvalue())
    if _is_loopback(host):
        port = url.split("/")[2].rpartition(":")[2]
        messages.print(
            f"only this machine reaches it; a phone: --host 0.0.0.0, or adb reverse tcp:{port} tcp:{port}",
            markup=False,
            soft_wrap=True,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _page(
    archive: Path,
    options: argparse.Namespace,
    place: Callable[[], Path],
    placing: threading.Lock,
    terminal: Terminal,
    *,
    starts: bool,
) -> Iterator[Serving]:
    """The page of a bundle, served while the context is open."""
    packages = pinned()
    versions = {name: package.version for package in packages for name, npm in NPM_NAMES.items() if npm == package.name}
    with tempfile.TemporaryDirectory(prefix="rexnet-page-") as name:
        bundle = unpacked(archive, Path(name), options)
        settings = _settings(bundle, options, versions, starts=starts)

        def accepted(content: bytes) -> Mapping[str, Any]:
            with placing:
                return accept(content, bundle, versions, place())

        site = Site(
            page={entry.name: entry.read_bytes() for entry in PAGE.iterdir()},
            files=_bundled(bundle, settings) | _runtime_files(terminal, packages),
            settings=settings,
            accept=accepted,
        )
        with serving(site, options.host, options.port) as served:
            announce(terminal.messages, served.url, options.host)
            yield served


def _settings(
    bundle: Bundle, options: argparse.Namespace, versions: Mapping[str, str], *, starts: bool
) -> dict[str, Any]:
    """What the page is told of the bundle and of what to do."""
    inputs: Any = read_json(bundle.folder / "inputs.json")
    if "resize" not in inputs:
        raise DataError("the bundle does not say how images are resized; make it again")
    artifacts = [
        {"name": Path(entry["file"]).name, "runtime": RUNTIMES[Path(entry["file"]).suffix]}
        | {key: entry[key] for key in ("file", "reference", "precision", "bytes")}
        for entry in bundle.plan["artifacts"]
        if Path(entry["file"]).suffix in RUNTIMES
    ]
    wanted = [
        entry
        for entry in artifacts
        if options.artifact in (None, entry["name"], entry["file"]) and options.runtime in (None, entry["runtime"])
    ]
    if inputs["shape"][3] != RGB:
        channels = inputs["shape"][3]
        raise UsageError(f"the page shows photos, and the bundle's images have {channels} channels: use `run`")
    if not wanted:
        known = ", ".join(f"{entry['name']} ({entry['runtime']})" for entry in artifacts) or "nothing for a browser"
        raise UsageError(f"no artifact is as --artifact and --runtime say; the bundle has {known}")
    return {
        "starts": starts,
        "artifacts": wanted,
        "versions": dict(versions),
        "threads": bundle.plan["threads"],
        "labels": inputs["labels"],
        "shape": inputs["shape"][1:3],
        "resize": inputs["resize"],
        "batches": bundle.plan["dataset"]["batches"],
        "images": bundle.plan["dataset"]["n"],
        "latency": bundle.plan["latency"],
    }


def _bundled(bundle: Bundle, settings: Mapping[str, Any]) -> dict[str, Path]:
    """The members that the page asks for, by address."""
    models = [entry[key] for entry in settings["artifacts"] for key in ("file", "reference") if entry[key]]
    return {f"bundle/{name}": bundle.folder / name for name in (*settings["batches"], "labels.npy", *models)}


def _runtime_files(terminal: Terminal, packages: tuple[Package, ...]) -> dict[str, Path]:
    found = web_runtimes(packages, default_cache(), terminal)
    return {f"runtimes/{name}": path for name, path in found.items()}


def _awaited(events: queue.Queue[Event], timeout: float, bar: Bar) -> Mapping[str, Any]:
    """The run's result; a page that was closed, or says nothing for long, ends the wait."""
    began, heard, patience, shown = time.monotonic(), None, SILENCE_S, 0
    while True:
        event = _next(events)
        bar.advance(0)
        now = time.monotonic()
        if event is not None:
            if event.kind != "news" or patience == SILENCE_S:  # news that was still on its way says nothing
                heard, patience = now, RELOAD_S if event.kind == "left" else SILENCE_S
            if event.kind == "result":
                return event.content
            if event.kind == "news":
                if event.content.get("failed"):
                    raise DeviceError(f"browser: {printable(str(event.content['failed'])[:300])}")
                part = event.content.get("part")
                part = round(PARTS * part) if isinstance(part, int | float) and 0 <= part <= 1 else shown
                bar.advance(max(0, part - shown), note=printable(str(event.content.get("phase", ""))[:40]))
                shown = max(shown, part)
        elif heard is not None and now - heard > patience:
            raise DeviceError("the page was closed, or its device fell asleep, before a result arrived; run again")
        if now - began > timeout:
            raise DeviceError(f"no result from a browser in {timeout:g} s; open the address sooner, or allow more time")


def _next(events: queue.Queue[Event]) -> Event | None:
    try:
        return events.get(timeout=0.2)
    except queue.Empty:
        return None


def _summary(result: Mapping[str, Any]) -> str:
    device, runtime = result["device"]["model"] or result["device"]["kind"], result["runtime"]["name"]
    median = result["latency"]["p50_ns"] / 1e6
    return printable(f"{device}, {runtime}, top-1 {result['accuracy']['top1']:.2%}, p50 {median:.2f} ms")
