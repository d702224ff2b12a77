"""`rexnet-bench run`, `devices` and `compare`: bundles on devices, and what came of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from rexnet_export.apps.bench.apple.command import PREFIX, add_apple_options, run_on_apple
from rexnet_export.apps.bench.browser.command import add_address_options, run_in_browser
from rexnet_export.apps.bench.runner.archive import open_archive
from rexnet_export.apps.bench.runner.failure import RunnerError
from rexnet_export.pipeline.core.errors import DataError, DeviceError, GateFailed, InvalidMeasurement, UsageError
from rexnet_export.pipeline.core.text import printable

if TYPE_CHECKING:
    from rexnet_export.apps.bench.transports.posix import Transport
    from rexnet_export.apps.shared.terminal import Terminal

BROWSER = "browser"
FORMS = (
    ("ssh://user@host[:port]", "any host that ssh reaches without a question"),
    ("adb:SERIAL", "an Android device that the adb client knows"),
    ("apple:IDENTIFIER", "an iPhone or iPad, from a Mac with Xcode"),
    (BROWSER, "any phone that opens the page"),
)
NAMES = "local, ssh://user@host[:port], adb, adb:SERIAL, apple:IDENTIFIER or browser"
DEFAULT_OUTPUT = Path("rexnet-bench-out")
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
    from rexnet_export.apps.bench.transports.local import local  # noqa: PLC0415

    return local()


def _ssh(device: str, options: argparse.Namespace) -> Transport:
    from rexnet_export.apps.bench.transports.ssh import ssh  # noqa: PLC0415

    return ssh(device, options.ssh_config)


def _adb(device: str, _options: argparse.Namespace) -> Transport:
    from rexnet_export.apps.bench.transports.adb import adb  # noqa: PLC0415

    return adb(device)


# How the text before the first colon of --device becomes a device; one entry per kind.
DEVICES: Mapping[str, Callable[[str, argparse.Namespace], Transport]] = {"local": _local, "ssh": _ssh, "adb": _adb}


def add_run_options(p: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    p.add_argument("bundle", type=Path, metavar="BUNDLE", help="what rexnet-bench bundle made")
    p.add_argument("--device", default="local", metavar="DEVICE", help=NAMES)
    p.add_argument("--python", metavar="PATH", help="the device's Python (default: this one, or python3 elsewhere)")
    p.add_argument("--ssh-config", type=Path, metavar="FILE", help="instead of ~/.ssh/config")
    p.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, metavar="DIR", help="a new folder for the result")
    p.add_argument("--timeout", type=float, default=3600, metavar="S", help="seconds for the run (default: 3600)")
    p.add_argument("--artifact", metavar="NAME", help="which artifact (default: the first that the device can run)")
    p.add_argument(
        "--runtime",
        metavar="NAME",
        help="ai_edge_litert, tflite_runtime, onnxruntime or coremltools; in a browser litert.js or onnxruntime-web",
    )
    add_address_options(p)
    add_apple_options(p)
    p.add_argument("--threads", type=int, metavar="N", help="(default: 1, kept to one core)")
    p.add_argument("--images", type=int, metavar="N", help="how many images (default: all)")
    p.add_argument("--pairs", type=int, metavar="N", help="pairs of timed blocks (default: 20)")
    p.add_argument("--block-runs", type=int, metavar="N", help="inferences in a block (default: 40)")
    p.add_argument("--budget", type=float, metavar="S", help="seconds after which no new pair is begun (default: 180)")
    p.add_argument("--idle-wait", type=float, metavar="S", help="seconds to wait for a quiet device (default: 120)")
    p.add_argument("--sustained", type=float, metavar="MIN", help="minutes of load without a pause, at the end")
    p.add_argument("--emulator", metavar="TEXT", help="what emulates the device: its durations are then never valid")
    p.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


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
    from rexnet_export.apps.bench.run_bundle import Request, run_bundle  # noqa: PLC0415

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
        terminal.out.print(_table({str(options.output): result}))
    if result["parity"]["verdict"] == "fail":
        raise GateFailed(f"{options.device} computes something else than the desktop; see {options.output}")
    if not result["validity"]["valid"]:
        reasons = ", ".join(result["validity"]["reasons"])
        raise InvalidMeasurement(
            f"the durations are not to be trusted ({reasons}); predictions are in {options.output}"
        )


def add_device_options(p: argparse.ArgumentParser) -> None:
    """The options of `devices`."""
    p.add_argument("--json", action="store_true", help="print the list as JSON")


def devices(options: argparse.Namespace, terminal: Terminal) -> int:
    """What `--device` may be now: this machine, what the adb server and Xcode know, and the form of the rest.

    A tool that cannot list its devices says why, and hides no other's.
    """
    found = [("local", "ready")]
    for listed in (_adb_devices, _apple_devices):
        try:
            found += listed()
        except DeviceError as error:
            terminal.note(printable(str(error)))
    if options.json:
        terminal.json([{"device": d, "state": state} for d, state in found])
        return 0
    for device, state in (*found, *FORMS):
        terminal.out.print(printable(f"{device}  {state}"), markup=False)
    return 0


def _adb_devices() -> list[tuple[str, str]]:
    from rexnet_export.apps.bench.transports import adb  # noqa: PLC0415

    return [(f"adb:{serial}", state) for serial, state in adb.listed()]


def _apple_devices() -> list[tuple[str, str]]:
    from rexnet_export.apps.bench.apple import devicectl  # noqa: PLC0415

    return [
        (f"apple:{found.identifier}", f"{found.state}, {found.model}, {found.os_version}")
        for found in devicectl.listed()
    ]


def add_compare_options(p: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    p.add_argument("first", type=Path, metavar="A", help="a result's folder")
    p.add_argument("second", type=Path, metavar="B", help="another")
    p.add_argument("--json", action="store_true", help="print the comparison as JSON")


def compare(options: argparse.Namespace, terminal: Terminal) -> int:
    """Two results side by side, and how far their predictions agree, image by image."""
    from rexnet_export.apps.bench.result.recompute import completed_result  # noqa: PLC0415
    from rexnet_export.apps.bench.result.result import agreement  # noqa: PLC0415

    first, second = completed_result(options.first), completed_result(options.second)
    between = agreement(options.first, first, options.second, second)
    if options.json:
        terminal.json(between)
        return 0
    terminal.out.print(_table({str(options.first): first, str(options.second): second}))
    said = ", ".join(f"{key.replace('_', ' ')} {_shown(value)}" for key, value in between.items())
    terminal.out.print(said, markup=False, soft_wrap=True)
    return 0


def _check(bundle: Path) -> None:
    try:
        open_archive(bundle).check()
    except RunnerError as error:
        raise DataError(str(error)) from error


def _flags(options: argparse.Namespace) -> list[str]:
    given = [(name, getattr(options, name)) for name in PASSED_ON]
    return [f"--{name.replace('_', '-')}={value}" for name, value in given if value is not None]


def _table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("", box=None, pad_edge=False)
    for name in results:
        table.add_column(Text(printable(name)))
    for title, show in ROWS.items():
        table.add_row(title, *(Text(_shown(show(result))) for result in results.values()))
    return table


def _milliseconds(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else f"{nanoseconds / 1e6:.3f} ms"


def _shown(value: object) -> str:
    if value is None:
        return "not measured"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


ROWS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "device": lambda r: " ".join(
        str(r["device"][key]) for key in ("model", "soc", "arch", "emulator") if r["device"][key]
    ),
    "runtime": lambda r: f"{r['runtime']['name']} {r['runtime']['version']} ({r['runtime']['delegate_or_ep']})",
    "artifact": lambda r: f"{r['runtime']['options'].get('artifact', r['bundle']['target'])}",
    "top-1": lambda r: f"{r['accuracy']['top1']:.2%} of {r['accuracy']['n']}",
    "same top-1 as desktop": lambda r: f"{r['parity']['top1_agreement']:.2%}",
    "largest difference, steps": lambda r: r["parity"]["max_quant_steps"],
    "p50": lambda r: _milliseconds(r["latency"]["p50_ns"]),
    "p90": lambda r: _milliseconds(r["latency"]["p90_ns"]),
    "p99": lambda r: _milliseconds(r["latency"]["p99_ns"]),
    "cold load": lambda r: _milliseconds(r["load"]["cold_ns"]),
    "first inference": lambda r: _milliseconds(r["load"]["first_inference_ns"]),
    "peak memory": lambda r: r["memory"]["peak_rss_bytes"] and f"{r['memory']['peak_rss_bytes'] / 1e6:.1f} MB",
    "ratio to baseline": lambda r: r["paired"]["ratio_median"],
    "durations": lambda r: "valid" if r["validity"]["valid"] else "INVALID: " + ", ".join(r["validity"]["reasons"]),
}
