"""`--npu`: an export's `.tflite`, compiled right after it; what cannot be is refused before anything is made."""

from __future__ import annotations

import argparse

from rexnet_export.apps.export.npu.chips import Chip, chips_from
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.files import compiled_folder, require_no_export
from rexnet_export.pipeline.export.options import Options
from rexnet_export.targets import ALL


def add_npu_flag(p: argparse.ArgumentParser) -> None:
    """Give an export `--npu`."""
    p.add_argument(
        "--npu",
        default=None,
        metavar="CHIP[,...]",
        help="also compile the INT8 .tflite for these chips' NPUs, as `npu FILE --chips` does; first: `npu --fetch`",
    )


def asked_chips(text: str | None, options: Options, flag: str = "--npu") -> tuple[Chip, ...]:
    """The chips of the list, none where it was not given; `UsageError` unless there will be a file to compile."""
    if text is None:
        return ()
    chips = chips_from(text, flag)
    if options.precision != "int8":
        raise UsageError(f"{flag} {text}: what is compiled is the INT8 .tflite; leave out --{options.precision}")
    if not {"tflite", ALL} & set(options.target):
        raise UsageError(f"{flag} {text}: what is compiled is the .tflite, which is not made; add --target tflite")
    for folder in options.output.glob(compiled_folder("*")):
        require_no_export(folder)
    return chips
