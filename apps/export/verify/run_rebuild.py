"""What `rexnet-export verify --rebuild` does, and prints of it."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rexnet_export.apps.export.make_export import make_export
from rexnet_export.apps.export.options import GPU
from rexnet_export.apps.export.verify.rebuild_json import rebuilt_json
from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.artifact.signature import require_signed
from rexnet_export.pipeline.core.errors import ConversionError, UsageError
from rexnet_export.pipeline.core.files import BACKBONE_FILE
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.possible import require_paths, require_targets
from rexnet_export.pipeline.finished.rebuild import Rebuilt, rebuild
from rexnet_export.targets import chosen

GIVEN = ("calibration_data", "eval_data", "eval_labels", "labels", "qparams")


def run(arguments: argparse.Namespace, terminal: Terminal) -> None:
    """Make the folder again, say what is the same, and raise what is not."""
    if len(arguments.paths) != 1:
        raise UsageError(f"--rebuild makes one folder again, and {len(arguments.paths)} are named")
    (folder,) = arguments.paths
    if arguments.trusted:
        require_signed(folder, arguments.trusted)

    def make(options: Options) -> None:
        if (folder / BACKBONE_FILE).exists():
            require_paths(options)
            from rexnet_export.pipeline.export.export import export_backbone  # noqa: PLC0415 - it needs torch

            targets = [target for target in chosen(options.target, options.precision) if target.name != GPU]
            require_targets(targets, options.precision)
            export_backbone(options, targets, terminal)
        else:
            make_export(options, terminal)

    given = {name: value for name in GIVEN if (value := getattr(arguments, name)) is not None}
    with tempfile.TemporaryDirectory() as work:
        found = rebuild(folder, arguments.rebuild, given, make, Path(work) / "rebuilt")
    if arguments.json:
        terminal.json(rebuilt_json(found).to_json())
    elif not arguments.quiet:
        terminal.out.print("\n".join(_lines(found)), soft_wrap=True)
    if found.differing:
        raise ConversionError("; ".join(_summary(found)))


def _lines(found: Rebuilt) -> list[str]:
    whole = len(found.same) + len(found.differing)
    lines = [f"{found.folder}: made again, {len(found.same)} of {whole} files are the same, byte by byte"]
    if found.not_compared:
        reason = "hold times; an export with SOURCE_DATE_EPOCH set leaves them out"
        lines.append(f"not compared: {', '.join(found.not_compared)} {reason}")
    lines.append("FAIL" if found.differing else "PASS: every file that can be compared is the same when made again")
    return lines


def _summary(found: Rebuilt) -> list[str]:
    """What differs, and what that may come from."""
    whole = len(found.same) + len(found.differing)
    named = f"FAIL: {found.folder}: {len(found.differing)} of {whole} files are others when made again: "
    reasons = found.reasons or (
        "no option, tool or input differs; another processor, or the files are not of this run",
    )
    return [named + ", ".join(found.differing), *reasons]
