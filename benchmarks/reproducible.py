"""Export twice under everything that must not matter, and compare every file byte by byte.

    python benchmarks/reproducible.py [--target all] [--checkpoint FILE] [--fast]

The second run has another folder, time zone, language, umask, hash seed, number of threads and terminal than the first.
Prints a table of file, bytes and whether both runs gave the same; exit code 1 where one differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EPOCH = "1700000000"
WAYS = (
    {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
    {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "17", "OMP_NUM_THREADS": "3", "COLUMNS": "200"},
)
MASKS = (0o022, 0o077)


def exported(parent: Path, name: str, way: dict[str, str], mask: int, flags: list[str]) -> dict[str, bytes]:
    """The files of one run by name."""
    home = parent / name
    home.mkdir()
    command = [sys.executable, "-P", "-m", "rexnet_export", *flags, "--quiet", "--output", f"{name}-out"]
    environment = {**os.environ, **way, "SOURCE_DATE_EPOCH": EPOCH}
    subprocess.run(command, cwd=home, env=environment, check=True, umask=mask)
    output = home / f"{name}-out"
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--target", action="append", help="(default: all)")
    p.add_argument("--checkpoint", type=Path, help="(default: the bundled network)")
    p.add_argument("--fast", action="store_true", help="few images and the fast effort")
    options = p.parse_args()
    flags = [flag for target in options.target or ["all"] for flag in ("--target", target)]
    flags += ["--checkpoint", str(options.checkpoint.resolve())] if options.checkpoint else []
    flags += ["--effort", "fast", "--calibration-images", "16", "--eval-images", "48"] if options.fast else []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        first, second = (
            exported(Path(folder), name, way, mask, flags)
            for name, way, mask in zip(("one", "another place"), WAYS, MASKS, strict=True)
        )
    differing = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    print("| file | bytes | SHA-256 | same |\n|---|---|---|---|")
    for name, content in {**second, **first}.items():
        print(f"| {name} | {len(content):,} | {hashlib.sha256(content).hexdigest()[:12]} | {name not in differing} |")
    print(f"\n{len(first)} files, {len(differing)} differ; {time.monotonic() - began:.0f} s for both runs")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
