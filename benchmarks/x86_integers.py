"""The integers of the files for x86: UINT8 weights (`-x86.ort`), INT8 weights (`-vnni.onnx`); prints a Markdown table.

    python benchmarks/x86_integers.py [--image-size 64 224] [--rounds 200] [--exact 1000]

Beside them their own float32 `.onnx`, and what ONNX Runtime's `quantize_static` makes of the same graph (UINT8 by INT8,
per channel). Processor time of one thread, interleaved; the bundled network, of which at sizes that it was not trained
for only the time is of interest. `--exact N` compares the answers to N evaluation images with those of the quantized
graph computed literally, node by node.
"""

import argparse
import tempfile
import time
from pathlib import Path

import networks
import numpy as np
import onnx
import onnxruntime
import rivals
from numpy.typing import NDArray

import rexnet_export
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import batches, bundled
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.proof.latency import measure
from rexnet_export.quantization.onnx.simulate import compare
from rexnet_export.targets.ort.session import open_session

FLOAT, STATIC = "float32 .onnx", "quantize_static, per channel"
FILES = {"-x86.ort": "int8/rexnet_100-int8-x86.ort", "-vnni.onnx": "int8/rexnet_100-int8-vnni.onnx"}
GRAPH = "int8/rexnet_100-int8-x86.onnx"
FEW = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--exact", type=int, default=0, metavar="N")
    options = parser.parse_args()
    print("| pixels | file | p50 ms | of `-x86.ort` | float32 / file | n |\n|--|--|--|--|--|--|")
    for size in options.image_size:
        with tempfile.TemporaryDirectory() as name:
            machine = compared(size, Path(name), options.rounds, options.exact)
    print(f"\n{machine}, 1 thread, rexnet_export {rexnet_export.__version__}, ONNX Runtime {onnxruntime.__version__}")


def compared(size: int, folder: Path, rounds: int, exact: int) -> str:
    sessions = opened(size, folder)
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    runs = {title: session.run for title, session in sessions.items()}
    times = measure(runs, image, Silent(), rounds=rounds, clock=time.thread_time_ns)
    x86, real = times["-x86.ort"].p50_ms, times[FLOAT].p50_ms
    for title, found in times.items():
        shares = f"{found.p50_ms / x86:.2f} | {real / found.p50_ms:.2f}"
        print(f"| {size} | {title} | {found.p50_ms:.2f} | {shares} | {found.n} |", flush=True)
    if exact:
        images = next(batches(bundled("evaluation"), Preprocess(size=size), range(exact), exact))
        literal = literally(folder / GRAPH, images)
        for title in FILES:
            score = compare(literal, sessions[title].run(images))
            print(f"{title}: {score.sqnr_db:.1f} dB, top-1 as in the graph {score.agreement:.2%}, n = {len(images)}")
    return times[FLOAT].machine


def opened(size: int, folder: Path) -> dict[str, Session]:
    """Everything that is timed, by its title."""
    given = {"image_size": size, "calibration_images": FEW, "eval_images": FEW}
    for precision in ("int8", "fp32"):
        rexnet_export.export(targets=["ort"], precision=precision, effort="fast", output=folder / precision, **given)
    asked = Options(checkpoint=str(bundled_checkpoint()), output=folder / "static", **given)
    network = networks.prepare("static", asked)
    model, inputs = networks.write_core(network, ".onnx")
    rivals.METHODS["ort-min-max"](model, np.load(inputs), folder / "core.onnx")
    front = networks.with_front(onnx.load(network.float_onnx.path), onnx.load(folder / "core.onnx"))
    onnx.save(front, folder / "static.onnx")
    return {
        FLOAT: open_session(folder / "fp32" / "rexnet_100-fp32.onnx"),
        STATIC: networks.open_onnx(folder / "static.onnx", (size, size)),
        **{title: open_session(folder / name) for title, name in FILES.items()},
    }


def literally(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    parts = [session.run(["logits"], {"image": images[start : start + 8]})[0] for start in range(0, len(images), 8)]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
