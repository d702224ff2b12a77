"""An iPhone or iPad that is connected to this Mac runs a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rexnet_export.apps.bench.apple.command import PREFIX, RUNTIME
from rexnet_export.apps.bench.apple.coremltools_app import prepared, require
from rexnet_export.apps.bench.apple.devicectl import KINDS, AppleDevice, listed
from rexnet_export.apps.bench.apple.run import run_on
from rexnet_export.apps.shared.flags import refuse_given
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.core.errors import DeviceError, UsageError

SAYS_NOTHING = ("python", "threads", "idle_wait", "sustained", "emulator")


def run_on_apple(options: argparse.Namespace, terminal: Terminal) -> Mapping[str, Any]:
    """Run the bundle's Core ML artifact there, by way of coremltools and Xcode on this Mac."""
    devicectl = require(options.device)
    check(options)
    found = wanted(options.device)
    return run_on(prepared(found, options.apple_team, devicectl, options.timeout), found, options, terminal)


def check(options: argparse.Namespace) -> None:
    """Refuse what makes no sense for a phone."""
    refuse_given(options, SAYS_NOTHING, f"says nothing to {options.device}; leave it out")
    if options.runtime not in (None, RUNTIME):
        raise UsageError(f"--runtime {options.runtime}: {options.device} has {RUNTIME} only")
    if options.apple_team is None:
        raise UsageError(f"{options.device} needs --apple-team TEAM, as an app is signed for it; Xcode shows your team")


def wanted(device: str) -> AppleDevice:
    """The device of that name, as Xcode knows it."""
    found = [each for each in listed() if f"{PREFIX}{each.identifier}" == device]
    if not found:
        raise DeviceError(f"Xcode knows no {device}; see rexnet-bench devices")
    if found[0].type not in KINDS:
        raise UsageError(f"{device} is a device of type {found[0].type}; only {' and '.join(KINDS)} are run on")
    return found[0]
