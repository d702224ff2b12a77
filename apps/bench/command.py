"""`rexnet-bench`: bundles of artifacts, run on devices and compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from rexnet_export.apps.bench import run_command as bench_run
from rexnet_export.apps.bench.browser import command as bench_browser
from rexnet_export.apps.bench.bundle import command as bench_bundle
from rexnet_export.apps.bench.gpu import command as bench_gpu
from rexnet_export.apps.shared.face import run_parsed
from rexnet_export.apps.shared.flags import CommandParser, add_version

PROGRAM = "rexnet-bench"
DESCRIPTION = """Run exported artifacts where they will be used. `bundle` makes one self-contained file of an export,
`run` runs it on a device and brings the result back, `serve` shows it on any phone. `gpu` measures the float network
here, in every form that a desktop GPU has."""

type Command = tuple[str, Callable[[argparse.ArgumentParser], None], str]
# One entry per command: what it does, its options, and the function that does it.
COMMANDS: Mapping[str, Command] = {
    "bundle": ("make a bundle of an export", bench_bundle.add_options, "bundle.make_bundle:make_bundle"),
    "run": ("run a bundle on a device", bench_run.add_run_options, "run_device:run"),
    "serve": ("serve a page that runs in a browser", bench_browser.add_serve_options, "browser.run_browser:serve"),
    "gpu": ("measure the desktop network on this machine's GPU", bench_gpu.add_gpu_options, "gpu.run_gpu:run"),
    "devices": ("list devices", bench_run.add_device_options, "run_devices:devices"),
    "compare": ("put two results side by side", bench_run.add_compare_options, "run_compare:compare"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_parsed(PROGRAM, parser, argv)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = CommandParser(prog=PROGRAM, description=DESCRIPTION)
    add_version(p)
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (says, add_options, work) in COMMANDS.items():
        command = commands.add_parser(name, help=says, description=f"{says[:1].upper()}{says[1:]}.")
        add_options(command)
        command.set_defaults(work=f"rexnet_export.apps.bench.{work}")
        command.add_argument("--quiet", action="store_true", help="say nothing but failures")
        command.add_argument("--debug", action="store_true", help="show tracebacks")
    return p
