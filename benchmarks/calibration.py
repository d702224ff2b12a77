"""Time and peak memory of calibration, each size in a process of its own; prints a Markdown table.

python benchmarks/calibration.py
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

CASES = ((256, 64), (1024, 64), (128, 224), (512, 224))
KIB_PER_GB = 1024 * 1024


def main() -> None:
    print("| images | pixels | seconds | peak memory, GB | before calibrating, GB |")
    print("|--|--|--|--|--|")
    for images, size in CASES:
        done = subprocess.run(
            [sys.executable, __file__, str(images), str(size)], check=True, capture_output=True, text=True
        )
        result = json.loads(done.stdout.splitlines()[-1])
        print(f"| {images} | {size} | {result['seconds']:.1f} | {result['peak']:.2f} | {result['before']:.2f} |")


def calibrate(images: int, size: int) -> None:
    import onnx  # noqa: PLC0415 - the parent process only counts

    from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint  # noqa: PLC0415
    from rexnet_export.pipeline.checkpoint.load import load_checkpoint  # noqa: PLC0415
    from rexnet_export.pipeline.core.records import ModelCard, Preprocess  # noqa: PLC0415
    from rexnet_export.pipeline.data.sources import batches, bundled, choose  # noqa: PLC0415
    from rexnet_export.pipeline.graph.float_graph import write_float_onnx  # noqa: PLC0415
    from rexnet_export.quantization.calibration.observe import observe  # noqa: PLC0415
    from rexnet_export.quantization.scheme.scheme import observed_tensors  # noqa: PLC0415

    checkpoint = load_checkpoint(bundled_checkpoint())
    preprocess = Preprocess(size=size, crop_ratio=1.0)
    source = bundled("calibration")
    card = ModelCard(
        name="rexnet_100",
        labels=checkpoint.labels or (),
        preprocess=preprocess,
        checkpoint_sha256=checkpoint.file.sha256,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "float.onnx")
        write_float_onnx(checkpoint.network, card, path)
        tensors = observed_tensors(onnx.load(path))
        before, start = peak(), perf_counter()
        observe(path, batches(source, preprocess, choose(source, images, 0), 8), tensors)
        print(json.dumps({"seconds": perf_counter() - start, "peak": peak(), "before": before}))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GB


if __name__ == "__main__":
    if len(sys.argv) > 1:
        calibrate(int(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
