"""The x86 file's weights as uint8 (what ships) and as int8: how exact each is on this processor, and how fast.

    python benchmarks/x86_integers.py rexnet-export-out [--images 1000] [--rounds 200]
    python benchmarks/x86_integers.py --random 224 [--rounds 100]

Against the quantized graph computed literally, node by node. Latency is CPU time of one thread, interleaved.
`--random PX` times rexnet_100 with random weights instead of an exported network.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from grouping import network
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import batches, bundled
from rexnet_export.pipeline.proof.latency import measure
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.onnx.simulate import compare
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.table import Calibration
from rexnet_export.targets.ort.session import OrtSession, open_session, optimized

WEIGHTS = (".weight.q", ".weight.q.zero_point")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path, nargs="?")
    parser.add_argument("--random", type=int, metavar="PX")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = random_x86(options.random, folder) if options.random else exported_x86(options.export)
        sessions = {"uint8": written(model, folder / "uint8"), "int8": written(signed(model), folder / "int8")}
        image = np.random.default_rng(0).integers(0, 256, (1, *sessions["int8"].shape), dtype=np.uint8)
        times = measure(
            {form: session.run for form, session in sessions.items()},
            image,
            Silent(),
            rounds=options.rounds,
            clock=time.thread_time_ns,
        )
        if options.export:
            images = next(batches(bundled("evaluation"), Preprocess(size=64), range(options.images), options.images))
            literal = literally(model, images)
            for form, session in sessions.items():
                score = compare(literal, session.run(images))
                print(f"{form}: {score.sqnr_db:.1f} dB, top-1 as in the graph {score.agreement:.2%}, n = {len(images)}")
    ratio = times["uint8"].p50_ms / times["int8"].p50_ms
    print(f"{times['int8'].machine}, {image.shape[1]} px, n = {options.rounds}: ", end="")
    print(f"uint8 {times['uint8'].p50_ms:.2f} ms, int8 {times['int8'].p50_ms:.2f} ms, ratio {ratio:.3f}")


def exported_x86(folder: Path) -> onnx.ModelProto:
    (path,) = folder.glob("*-int8-x86.onnx")
    return onnx.load(path)


def random_x86(size: int, folder: Path) -> onnx.ModelProto:
    model, _ = network(size, folder)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    calibration = Calibration(images_sha256="0" * 64, images=2, statistic="min-max", seed=0)
    statistics = observe(folder / "float.onnx", [images], observed_tensors(model))
    return insert_qdq(model, decide(model, statistics, calibration), "uint8")


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with the weights and their zero points 128 lower, as int8."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.UINT8 and tensor.name.endswith(WEIGHTS):
            values = numpy_helper.to_array(tensor).astype(np.int16) - 128
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.int8), tensor.name))
    return changed


def written(model: onnx.ModelProto, path: Path) -> OrtSession:
    onnx.save(model, path.with_suffix(".onnx"))
    return open_session(optimized(path.with_suffix(".onnx"), path.with_suffix(".ort")).path)


def literally(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts = [session.run(["logits"], {"image": images[start : start + 8]})[0] for start in range(0, len(images), 8)]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
