"""INT8 artifacts against their own float32 files, interleaved in one run on one thread; prints a Markdown table.

    python benchmarks/latency.py [--image-size 64 224] [--rounds 200] [--processor-time]

Processor time in place of time on a clock is what a busy machine changes less. The bundled network; at sizes it was
not trained for only the time is of interest.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns, process_time_ns

import numpy as np

import rexnet_export
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Artifact, stored_file
from rexnet_export.pipeline.proof.latency import measure, ratio
from rexnet_export.targets import TARGETS

PAIRS = {
    "TFLite": ("tflite", "rexnet_100-int8.tflite", "rexnet_100-fp32.tflite"),
    "OpenVINO": ("openvino", "rexnet_100-int8.openvino", "rexnet_100-fp32.openvino"),
    "ONNX Runtime, x86 preset": ("ort", "rexnet_100-int8-x86.ort", "rexnet_100-fp32.onnx"),
    "ONNX Runtime, VNNI preset": ("ort", "rexnet_100-int8-vnni.onnx", "rexnet_100-fp32.onnx"),
    "ONNX Runtime, ARM preset on this machine": ("ort", "rexnet_100-int8.ort", "rexnet_100-fp32.onnx"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--processor-time", action="store_true")
    options = parser.parse_args()
    clock = process_time_ns if options.processor_time else perf_counter_ns
    print("| pixels | files | INT8 p50 ms | float32 p50 ms | float32 / INT8 | n |")
    print("|--|--|--|--|--|--|")
    for size in options.image_size:
        machine = compare(size, options.rounds, clock)
    print(f"\n{machine}, 1 thread, rexnet_export {rexnet_export.__version__}")


def compare(size: int, rounds: int, clock: Callable[[], int]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("int8", "fp32"):
            rexnet_export.export(
                targets=["tflite", "ort", "openvino"],
                precision=precision,
                image_size=size,
                calibration_images=16,
                eval_images=16,
                output=Path(folder, precision),
            )
        sessions = {}
        for target, *names in PAIRS.values():
            for name in names:
                file = stored_file(Path(folder, "int8" if "-int8" in name else "fp32", name))
                sessions[name] = TARGETS[target].open(Artifact(target=target, precision="int8", file=file))
        image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
        runs = {name: session.run for name, session in sessions.items()}
        times = measure(runs, image, Silent(), rounds=rounds, clock=clock)
    for title, (_, quantized, floating) in PAIRS.items():
        ours, theirs = times[quantized], times[floating]
        print(f"| {size} | {title} | {ours.p50_ms:.2f} | {theirs.p50_ms:.2f} | {ratio(theirs, ours):.2f} | {ours.n} |")
    return ours.machine


if __name__ == "__main__":
    main()
