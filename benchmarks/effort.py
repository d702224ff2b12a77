"""Time and peak memory of a whole INT8 export by effort and image size, each in a process of its own; prints Markdown.

    python benchmarks/effort.py [--image-size 64 224] [--efforts fast default high] [--calibration-images 256]

The bundled network (ReXNet 1.0x), for ONNX Runtime, measured on 16 images: nearly all the time is quantization's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from rexnet_export.pipeline.machine.environment import processor

KIB_PER_GIB = 1024 * 1024


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--image-size", type=int, nargs="+", default=[64, 224])
    flags.add_argument("--efforts", nargs="+", default=["fast", "default", "high"])
    flags.add_argument("--calibration-images", type=int, default=256)
    options = flags.parse_args()
    print("| pixels | effort | seconds | processor seconds | peak memory, GiB |\n|--|--|--|--|--|", flush=True)
    for size in options.image_size:
        for effort in options.efforts:
            seconds, busy, peak = measured(size, effort, options.calibration_images)
            print(f"| {size} | `{effort}` | {seconds:.0f} | {busy:.0f} | {peak:.2f} |", flush=True)
    print(f"\n{options.calibration_images} calibration images, {processor()}, {os.cpu_count()} cores")


def measured(size: int, effort: str, images: int) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of all cores, and the process's largest resident memory in GiB."""
    command = [str(Path(sys.executable).with_name("rexnet-export")), "--int8", "--target", "ort", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--effort", effort, "--image-size", str(size), "--calibration-images", str(images)]
        command += ["--eval-images", "16", "--output", str(Path(folder, "out"))]
        start = perf_counter()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(process.returncode)
        return perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / KIB_PER_GIB


if __name__ == "__main__":
    main()
