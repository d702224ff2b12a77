"""A bundle on a device: checked here, run there, and what came of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rexnet_export.apps.bench.apple.command import PREFIX
from rexnet_export.apps.bench.apple.run_apple import run_on_apple
from rexnet_export.apps.bench.browser.run_browser import run_in_browser
from rexnet_export.apps.bench.result_table import ResultTable
from rexnet_export.apps.bench.run_bundle import Request, run_bundle
from rexnet_export.apps.bench.run_command import NAMES
from rexnet_export.apps.bench.runner.archive import open_archive
from rexnet_export.apps.bench.runner.failure import RunnerError
from rexnet_export.apps.bench.transports.adb import adb
from rexnet_export.apps.bench.transports.local import local
from rexnet_export.apps.bench.transports.posix import Transport
from rexnet_export.apps.bench.transports.ssh import ssh
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import done
from rexnet_export.pipeline.core.errors import DataError, GateFailed, InvalidMeasurement, UsageError

BROWSER = "browser"
PASSED_ON = (
    "artifact",
    "runtime",
    "threads",
    "images",
    "pairs",
    "block_runs",
    "budget",
    "idle_wait",
    "sustained",
    "emulator",
)


def _local(_device: str, _options: argparse.Namespace) -> Transport:
    return local()


def _ssh(device: str, options: argparse.Namespace) -> Transport:
    return ssh(device, options.ssh_config)


def _adb(device: str, _options: argparse.Namespace) -> Transport:
    return adb(device)


# How the text before the first colon of --device becomes a device; one entry per kind.
DEVICES: Mapping[str, Callable[[str, argparse.Namespace], Transport]] = {"local": _local, "ssh": _ssh, "adb": _adb}


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Check the bundle here, run it there, and say what came of it; 4 where the durations are worthless."""
    if not options.timeout > 0:
        raise UsageError(f"--timeout {options.timeout:g} is not a number of seconds above 0")
    _report(_performer(options.device)(options, terminal), options, terminal)
    return 0


def _performer(device: str) -> Callable[[argparse.Namespace, Terminal], Mapping[str, Any]]:
    """How a device runs bundles: the first two kinds have no runner on them."""
    if device == BROWSER:
        return run_in_browser
    return run_on_apple if device.startswith(PREFIX) else _run_on_device


def _run_on_device(options: argparse.Namespace, terminal: Terminal) -> Mapping[str, Any]:
    kind = options.device.partition(":")[0]
    if kind not in DEVICES or (kind == "local" and options.device != "local"):
        raise UsageError(f"--device {options.device!r}: name {NAMES}")
    _check(options.bundle)
    request = Request(
        bundle=options.bundle,
        python=options.python or (sys.executable if kind == "local" else "python3"),
        flags=tuple(_flags(options)),
        timeout=options.timeout,
        output=options.output,
    )
    return run_bundle(request, DEVICES[kind](options.device, options), terminal).result


def _report(result: Mapping[str, Any], options: argparse.Namespace, terminal: Terminal) -> None:
    """Show a result; what is wrong with it is raised."""
    if options.json:
        terminal.json(result)
    elif not options.quiet:
        terminal.out.print(ResultTable({str(options.output): result}))
    if result["parity"]["verdict"] == "fail":
        raise GateFailed(f"FAIL: {options.device} computes something else than the desktop; see {options.output}")
    if not result["validity"]["valid"]:
        reasons = ", ".join(result["validity"]["reasons"])
        raise InvalidMeasurement(
            f"INVALID: the durations are not to be trusted ({reasons}); predictions are in {options.output}, "
            "for durations run again on a quiet device"
        )
    terminal.note(
        done(
            f"{options.device} computes what the desktop does, {result['latency']['p50_ns'] / 1e6:.3f} ms an image",
            f"the result is in {options.output}, for rexnet-gate check --device and rexnet-bench compare",
        )
    )


def _check(bundle: Path) -> None:
    try:
        open_archive(bundle).check()
    except RunnerError as error:
        raise DataError(str(error)) from error


def _flags(options: argparse.Namespace) -> list[str]:
    given = [(name, getattr(options, name)) for name in PASSED_ON]
    return [f"--{name.replace('_', '-')}={value}" for name, value in given if value is not None]
