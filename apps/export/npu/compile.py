"""One file compiled for one chip: LiteRT's program in a process of its own, and what it said when it failed.

For Qualcomm's chips it runs once more, for QNN's recorder in place of the compiler: both are handed the same graph.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from rexnet_export.apps.export.npu.chips import Chip
from rexnet_export.apps.export.npu.environment import Environment, alias
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.core.untrusted import MOST_ARTIFACT
from rexnet_export.pipeline.machine import child

MEMORY, WITHIN_S = 16 * 2**30, 1800.0
MOST_LOG = 4 * 2**20  # bytes of it that are read
LONGEST = 300
SDK = re.compile(r"SDK version: (\S+)")
CAUSES = (
    re.compile(r"(?:Could not|Failed to|Cannot) load (?:shared )?library.*"),
    re.compile(r"(?:Could not|Failed to|Cannot) load .*"),
    re.compile(r"ERROR: (.*)"),
)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A compiled file as the program wrote it, and how long it took; `handed_over` and `recorded` are Qualcomm's.

    They are folders: of the graph that was compiled, and of what was recorded.
    """

    path: Path
    handed_over: Path
    recorded: Path
    sdk: str
    seconds: float


def compile_for(chip: Chip, source: Path, environment: Environment, folder: Path) -> Made:
    """Compile `source` in `folder`; `TargetUnavailable` where the vendor's SDK is missing, else `ConversionError`."""
    vendor, out = chip.vendor, folder / f"{chip.name}.tflite"
    log, handed_over, recorded = (folder / f"{chip.name}{end}" for end in (".txt", "-graph", "-recorded"))
    handed_over.mkdir()
    recorded.mkdir()
    flags = [*_flags(chip, source, environment), f"--o={out}"]
    if vendor.name == "Qualcomm":
        flags += [f"--qualcomm_ir_json_dir={handed_over}", "--qualcomm_log_level=error"]
    places = (*environment.libraries(vendor), *alias(environment, vendor, folder / "alias"))
    began = time.perf_counter()
    code = _run([str(environment.compiler), *flags], places, log, folder)
    seconds = time.perf_counter() - began
    with log.open("rb") as stream:
        said = stream.read(MOST_LOG).decode("utf-8", "replace")
    if code or not out.is_file() or not 0 < out.stat().st_size <= MOST_ARTIFACT:
        missing = not environment.has(vendor)
        kind = TargetUnavailable if missing else ConversionError
        raise kind(_cause(said, code) + (f"; it needs {vendor.needs}" if missing else ""))
    version = SDK.search(said)
    if vendor.name == "Qualcomm":  # where that fails, there is no recording, which is said when it is read
        flags = [*_flags(chip, source, environment), f"--o={recorded / 'out.tflite'}"]
        flags += [f"--qualcomm_{what}={recorded}" for what in ("saver_output_dir", "ir_json_dir")]
        with suppress(ConversionError):  # it took too long
            _run([str(environment.compiler), *flags], places, recorded / "said.txt", folder)
    return Made(
        path=out,
        handed_over=handed_over,
        recorded=recorded,
        sdk=excerpt(version[1]) if version else "not stated",
        seconds=seconds,
    )


def _flags(chip: Chip, source: Path, environment: Environment) -> list[str]:
    vendor = chip.vendor
    return [
        "--cmd=apply",
        f"--model={source}",
        f"--soc_manufacturer={vendor.name}",
        f"--soc_model={chip.name.lower() if vendor.name == 'MediaTek' else chip.name}",
        f"--libs={environment.plugin(vendor)}",
        "--err=--",
        *vendor.flags.get(chip.name, ()),
    ]


def _run(command: list[str], places: tuple[Path, ...], log: Path, folder: Path) -> int:
    """The exit code; what is left running ends with this process, or after `WITHIN_S`."""
    with log.open("wb") as stream:
        try:
            return subprocess.run(
                child.command("rexnet_export.apps.export.npu.bounded", str(MEMORY), *command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(map(str, places))},
                timeout=WITHIN_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise ConversionError(f"the compiler did not end within {WITHIN_S:g} s") from error


def _cause(said: str, code: int) -> str:
    """The first line that names a cause, without the paths of this machine."""
    for pattern in CAUSES:
        if found := pattern.search(said):
            return "the plugin says: " + excerpt(re.sub(r"/\S*/", "", found[found.lastindex or 0]), LONGEST)
    return f"the compiler ended with {Signals(-code).name if code < 0 else f'code {code}'} and says no cause"
