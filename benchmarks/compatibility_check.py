"""Do three runtimes of other people still answer as this project's own sessions? Fails where one does not.

    python benchmarks/compatibility_check.py FOLDER [--images N] [--clients NAME ...] [--environments DIR]

MediaPipe, OpenVINO and Qualcomm's emulator are asked as `compatibility.py` asks them, in their newest releases, for few
images. One whose environment cannot be made, as without network, is a line and is not checked.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from compatibility import KNOWN, Row, asked, environment, files_for, images_for, parser

from rexnet_export.targets.openvino.saturation import saturates

# The share of images that must have the same best class: MediaPipe runs the kernels that we do, the others their own.
LEAST = {"mediapipe": 1.0, "openvino": 0.975, "qnn-htp": 0.975}
SATURATED = 0.9  # OpenVINO's INT8 at its defaults, on processors that lose sums
REFUSED = {("qnn-htp", "-int8.onnx"), ("qnn-htp", "-int8-x86.onnx")}  # the NPU takes its own file alone
WHOLE = "1 partition"


def main() -> int:
    options = parser(__doc__, [*LEAST], 40).parse_args()
    images = images_for(options.folder, options.images)
    problems = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.clients:
            try:
                python = environment(KNOWN[name], options.environments / name)
            except subprocess.CalledProcessError:
                print(f"{name}: not checked: its packages could not be installed; see above, is there a network?")
                continue
            rows = [asked(name, python, file, images, Path(scratch)) for file in files_for(KNOWN[name], options.folder)]
            for row in rows:
                print(f"{row.runtime or name}, {row.file}: {row.answer}", flush=True)
            problems += [] if rows else [f"{name}: {options.folder} has no file for it"]
            problems += [f"{name}, {row.file}: {what}" for row in rows if (what := problem(row, saturated=saturates()))]
    for line in problems:
        print(f"differs: {line}", file=sys.stderr)
    return 1 if problems else 0


def problem(row: Row, *, saturated: bool) -> str | None:
    """What is wrong with an answer, or nothing; `saturated` where this processor loses sums of INT8 products."""
    if row.same is None:
        expected = any(row.client == client and row.file.endswith(ending) for client, ending in REFUSED)
        return None if expected else row.answer
    least = SATURATED if saturated and row.client == "openvino" else LEAST[row.client]
    if row.same < least:
        return f"the same best class for {row.same:.1%} of the images, and should be for {least:.1%}: {row.answer}"
    if row.client == "qnn-htp" and not row.runtime.endswith(f", {WHOLE}"):
        return f"not whole on the NPU: {row.runtime}"
    return None


if __name__ == "__main__":
    sys.exit(main())
