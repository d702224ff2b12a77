"""Run a bundle on this device: `python3 bundle.zip --out DIR`, or by rexnet-bench run."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from rexnet_export.apps.bench.runner.archive import open_archive
from rexnet_export.apps.bench.runner.failure import DEVICE, INVALID, NO_RUNTIME, UNEXPECTED, USAGE, RunnerError
from rexnet_export.apps.bench.runner.phase import say

PARITY_FAILED = 1
RESULT_FILE, DONE_FILE = "result.json", "DONE"


def main(bundle: Path) -> int:
    """Run the command; returns the exit code: 0 valid, 1 parity failed, 4 invalid measurement, or the failure's."""
    options = parser().parse_args()
    try:
        return _run(bundle, options)
    except RunnerError as error:
        print(f"device runner: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"device runner: {error}; free some space or name another --out", file=sys.stderr)
        return DEVICE
    except Exception as error:  # noqa: BLE001 - Python itself would end with 1, which says that parity failed
        print(f"device runner: unexpected {error!r}; report it", file=sys.stderr)
        return UNEXPECTED


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="bundle.zip", description="Run this bundle on the device it lies on.")
    p.add_argument("--out", type=Path, required=True, help="folder for the results; must not exist")
    p.add_argument("--artifact", help="which of the bundle's artifacts (default: the first that can run here)")
    p.add_argument("--runtime", help="ai_edge_litert, tflite_runtime, onnxruntime or coremltools")
    p.add_argument("--threads", type=int, help="(default: the plan's)")
    p.add_argument("--images", type=int, help="how many images (default: all)")
    p.add_argument("--pairs", type=int, help="how many pairs of blocks")
    p.add_argument("--block-runs", type=int, help="inferences in a block")
    p.add_argument("--budget", type=float, help="seconds for latency")
    p.add_argument("--idle-wait", type=float, help="seconds to wait for a quiet device")
    p.add_argument("--sustained", type=float, default=0.0, help="minutes of load without a pause")
    p.add_argument("--emulator", help="what emulates this device, if anything does")
    p.add_argument("--process-kind", default="shell", choices=("shell", "ssh"), help=argparse.SUPPRESS)
    p.add_argument("--run-id", help=argparse.SUPPRESS)
    return p


def _run(bundle: Path, options: argparse.Namespace) -> int:
    if options.out.exists():
        raise RunnerError(f"--out {options.out} exists; name a new folder", USAGE)
    say("verify")
    archive = open_archive(bundle)
    identity = archive.check()
    require_numpy()
    # Imported late: they need numpy, whose absence is to be said in a sentence.
    from rexnet_export.apps.bench.runner.plan import chosen  # noqa: PLC0415
    from rexnet_export.apps.bench.runner.session import run_phases  # noqa: PLC0415

    job = chosen(archive, options)
    folder = Path(tempfile.mkdtemp(prefix=".bundle-", dir=options.out.absolute().parent))
    try:
        archive.unpack(folder)
        options.out.mkdir(parents=True)
        result = run_phases(job, folder, options, identity)
        finish(options.out, result)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if result["parity"]["verdict"] == "fail":
        print(f"device runner: {job.file} computes something else than on the desktop", file=sys.stderr)
        return PARITY_FAILED
    return 0 if result["validity"]["valid"] else INVALID


def finish(out: Path, result: dict[str, Any]) -> None:
    """Write the result, then DONE with the digest of every file: whoever sees it sees a whole result."""
    text = json.dumps(result, indent=2, sort_keys=True, allow_nan=False) + "\n"
    (out / RESULT_FILE).write_text(text, encoding="utf-8")
    lines = [f"{_sha256(path)}  {path.name}\n" for path in sorted(out.iterdir())]
    partial = out / f".{DONE_FILE}"
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(out / DONE_FILE)
    say("done")


def require_numpy() -> None:
    """Everything but the checks needs numpy."""
    try:
        import numpy  # noqa: F401, PLC0415
    except ImportError as error:
        where = f"Python {platform.python_version()} ({sys.executable})"
        raise RunnerError(f"{where} has no numpy; install it with: pip install numpy", NO_RUNTIME) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
