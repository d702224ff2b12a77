"""The light commands with the lowest versions that `pyproject.toml` allows, in an environment made for it.

    python benchmarks/lowest.py EXPORT [--extra tflite]

EXPORT is what `rexnet-export` wrote in INT8, with a `.tflite` for the extra. The Python needs uv. Prints what
was installed, then a row for each command; what did not work makes the exit code 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNDECIDED = 3  # the gate works, and says that these images are too few


def main() -> int:
    """Install, run every command, and say what failed."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("export", type=Path, metavar="EXPORT")
    p.add_argument("--extra", action="append", default=[])
    options = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="lowest-") as name:
        folder = Path(name)
        to_run = commands(options.export.absolute(), folder, tflite="tflite" in options.extra)
        installed(folder / "env", options.extra)
        failed = False
        print("| command | exit code |\n|---|---:|")
        for command in to_run:
            code = run(folder / "env", command, folder)
            failed |= code not in ((0, UNDECIDED) if command[1] == "check" else (0,))
            print(f"| `{command[0]} {command[1]}` {Path(command[2]).suffix} | {code} |", flush=True)
    return int(failed)


def installed(environment: Path, extras: Sequence[str]) -> None:
    """An environment of this Python with the package and the lowest versions of what it names itself."""
    uv = (sys.executable, "-m", "uv")
    what = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    python = str(environment / "bin" / "python")
    subprocess.run((*uv, "venv", "--quiet", "--python", sys.executable, str(environment)), check=True)
    subprocess.run(
        (*uv, "pip", "install", "--quiet", "--python", python, "--resolution", "lowest-direct", what), check=True
    )
    subprocess.run((*uv, "pip", "freeze", "--python", python), check=True)


def commands(export: Path, folder: Path, *, tflite: bool) -> list[list[str]]:
    """What runs without torch on finished files."""
    suffixes = (".ort", ".onnx", ".tflite") if tflite else (".ort", ".onnx")
    found = {suffix: sorted(export.glob(f"*-int8{suffix}")) for suffix in suffixes}
    if missing := [suffix for suffix, files in found.items() if not files]:
        sys.exit(f"lowest.py: {export} has no *-int8{missing[0]}; export with --int8 --target all")
    files = [files[0] for files in found.values()]
    photo = folder / "photo.png"
    baselines = str(folder / "baselines")
    return [
        *(["rexnet-export", "info", str(file)] for file in files),
        *(["rexnet-export", "predict", str(file), str(photo)] for file in files),
        *(["rexnet-export", "verify", str(file), "--eval-images", "64"] for file in files),
        ["rexnet-gate", "update", str(export), "--reason", "the first", "--baselines", baselines],
        ["rexnet-gate", "check", str(export), "--baseline", baselines],
    ]


def run(environment: Path, command: Sequence[str], folder: Path) -> int:
    """The exit code; what failed says why."""
    photo = folder / "photo.png"
    if not photo.exists():
        paint = "import sys, PIL.Image; PIL.Image.new('RGB', (64, 48), 'teal').save(sys.argv[1])"
        subprocess.run((environment / "bin" / "python", "-c", paint, str(photo)), check=True)
    binaries = environment / "bin"
    done = subprocess.run(
        (binaries / command[0], *command[1:]),
        cwd=folder,
        env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"{' '.join(command)}\n{done.stdout}{done.stderr}", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
