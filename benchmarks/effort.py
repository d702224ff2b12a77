r"""Time and peak memory of a whole INT8 export by effort and image size, each in a process of its own; prints Markdown.

    python benchmarks/effort.py [--image-size 64 224] [--efforts fast default high] [--calibration-images 256]
    python benchmarks/effort.py --image-size 64 --efforts default --target all --eval-images 10000 \
        --calibration-images 512

The bundled network (ReXNet 1.0x), as it stands for ONNX Runtime and measured on 16 images: nearly all the time is
quantization's. The second call is what `rexnet-export --target all --int8` does.
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
    flags.add_argument("--target", default="ort")
    flags.add_argument("--calibration-images", type=int, default=256)
    flags.add_argument("--eval-images", type=int, default=16)
    flags.add_argument("--proof", default="quick")
    options = flags.parse_args()
    passed_on = ["--target", options.target, "--eval-images", str(options.eval_images)]
    passed_on += ["--calibration-images", str(options.calibration_images), "--proof", options.proof]
    print("| pixels | effort | seconds | processor seconds | peak memory, GiB |\n|--|--|--|--|--|", flush=True)
    for size in options.image_size:
        for effort in options.efforts:
            seconds, busy, peak = measured(["--image-size", str(size), "--effort", effort, *passed_on])
            print(f"| {size} | `{effort}` | {seconds:.0f} | {busy:.0f} | {peak:.2f} |", flush=True)
    images = f"{options.calibration_images} calibration and {options.eval_images} evaluation images"
    print(f"\n--target {options.target}, --proof {options.proof}, {images}, {processor()}, {os.cpu_count()} cores")


def measured(flags: list[str]) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of all cores, and the process's largest resident memory in GiB."""
    command = [str(Path(sys.executable).with_name("rexnet-export")), "--int8", "--quiet", *flags]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--output", str(Path(folder, "out"))]
        start = perf_counter()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(process.returncode)
        return perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / KIB_PER_GIB


if __name__ == "__main__":
    main()
