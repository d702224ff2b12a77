"""How fast the MIL reference interpreter runs the bundled network's INT8 package; prints a Markdown table.

    python benchmarks/interpreter.py [--image-size 64 224] [--images 640 64]

Images a second of wall time, and of processor time, which says more where a machine is shared.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch

import rexnet_export
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.targets.coreml.interpreter import MilSession
from rexnet_export.targets.coreml.package import read_package

WARM_UP = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--images", type=int, nargs="+", default=[640, 64], help="how many, one number a size")
    options = parser.parse_args()
    print("| pixels | images / s | images / processor s | n |")
    print("|--|--|--|--|")
    for size, count in zip(options.image_size, options.images, strict=True):
        measure(size, count)
    print(f"\n{processor()}, {torch.get_num_threads()} threads, rexnet_export {rexnet_export.__version__}")


def measure(size: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rexnet_export.export(
            targets=["coreml"], precision="int8", image_size=size, calibration_images=16, eval_images=16, output=folder
        )
        session = MilSession(read_package(Path(folder, "rexnet_100-int8.mlpackage")))
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    session.run(images[:WARM_UP])
    start, started = perf_counter(), process_time()
    session.run(images)
    wall, busy = perf_counter() - start, process_time() - started
    print(f"| {size} | {count / wall:.1f} | {count / busy:.1f} | {count} |", flush=True)


if __name__ == "__main__":
    main()
