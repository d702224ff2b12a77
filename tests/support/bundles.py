"""A small bundle, copies of it with one thing wrong, and the flags that make its run short."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from rexnet_export.apps.bench.command import main

SHORT = ("--pairs", "2", "--block-runs", "3", "--idle-wait", "0")
SUMS = "SHA256SUMS"


def small_bundle(exported: Path, output: Path, *flags: str) -> Path:
    """A bundle of a small network's export with 24 images."""
    assert main(["bundle", str(exported), "--output", str(output), "--images", "24", "--quiet", *flags]) == 0
    return output


def altered(bundle: Path, output: Path, change: Callable[[dict[zipfile.ZipInfo | str, bytes]], None]) -> Path:
    """The bundle with whatever `change` does to its members."""
    with zipfile.ZipFile(bundle) as source:
        members: dict[zipfile.ZipInfo | str, bytes] = {member: source.read(member) for member in source.infolist()}
    change(members)
    with zipfile.ZipFile(output, "w") as sink:
        for member, content in members.items():
            sink.writestr(member, content)
    return output
