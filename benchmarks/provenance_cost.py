"""CPU seconds of what makes and checks the records of an export, beside what the export itself took.

    python benchmarks/provenance_cost.py rexnet-export-out

Each part in a process of its own, where nothing is remembered; medians of 7.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from rexnet_export.pipeline.artifact.export_folder import require_whole
from rexnet_export.pipeline.artifact.manifest import ManifestJson, manifest
from rexnet_export.pipeline.artifact.provenance import statement
from rexnet_export.pipeline.artifact.sbom import sbom
from rexnet_export.pipeline.core.json import now, to_text
from rexnet_export.pipeline.core.records import stored_file

RUNS = 7


def parts(folder: Path) -> list[tuple[str, float]]:
    """Title and CPU seconds."""
    made = ManifestJson.parse((folder / "manifest.json").read_bytes()).inputs
    times = [time.process_time()]
    stored = {path.name: stored_file(path) for path in folder.iterdir()}
    to_text(manifest(stored, made).to_json())
    times.append(time.process_time())
    to_text(sbom("network", stored, made, now()))
    times.append(time.process_time())
    to_text(statement(folder, made, {}, now()))
    times.append(time.process_time())
    require_whole(folder)
    times.append(time.process_time())
    titles = ("digests and manifest", "bill of materials", "provenance", "every digest compared again")
    return [(title, after - before) for title, before, after in zip(titles, times, times[1:], strict=False)]


def main() -> int:
    if sys.argv[1:2] == ["--once"]:
        for title, seconds in parts(Path(sys.argv[2])):
            print(f"{title}\t{seconds}")
        return 0
    found: dict[str, list[float]] = {}
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, __file__, "--once", sys.argv[1]], check=True, capture_output=True, text=True
        )
        for line in done.stdout.splitlines():
            title, seconds = line.split("\t")
            found.setdefault(title, []).append(float(seconds))
    print("| part | CPU, s | least to most |\n|---|---:|---:|")
    for title, seconds in found.items():
        print(f"| {title} | {median(seconds):.3f} | {min(seconds):.3f} to {max(seconds):.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
