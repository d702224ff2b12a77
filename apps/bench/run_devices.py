"""What `--device` may be: what this machine can see, and the form of the rest."""

from __future__ import annotations

import argparse

from rexnet_export.apps.bench.apple import devicectl
from rexnet_export.apps.bench.run_device import BROWSER
from rexnet_export.apps.bench.transports import adb
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.shared.text import counted, done
from rexnet_export.pipeline.core.errors import DeviceError
from rexnet_export.pipeline.core.text import printable

FORMS = (
    ("ssh://user@host[:port]", "any host that ssh reaches without a question"),
    ("adb:SERIAL", "an Android device that the adb client knows"),
    ("apple:IDENTIFIER", "an iPhone or iPad, from a Mac with Xcode"),
    (BROWSER, "any phone that opens the page"),
)


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
    terminal.note(
        done(f"{counted(len(found), 'device')} seen", "run a bundle on one: rexnet-bench run BUNDLE --device DEVICE")
    )
    return 0


def _adb_devices() -> list[tuple[str, str]]:
    return [(f"adb:{serial}", state) for serial, state in adb.listed()]


def _apple_devices() -> list[tuple[str, str]]:
    return [
        (f"apple:{found.identifier}", f"{found.state}, {found.model}, {found.os_version}")
        for found in devicectl.listed()
    ]
