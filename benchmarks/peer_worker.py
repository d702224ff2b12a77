"""Open one file in one runtime on one thread, and run one image for every line that comes in.

    python benchmarks/peer_worker.py RUNTIME FILE IMAGE.npy

IMAGE is uint8 [1, S, S, 3]. The first line printed is JSON: by what it is executed, and where a runtime says so, in
which numbers how many of its layers are computed. Then each line read is answered by the nanoseconds of processor time,
of all threads of this process, of one run after another that does not count. Runtimes are called as their own pages
say; nothing of rexnet_export is imported.
"""

# ruff: noqa: PLC0415 - each runtime is imported only by those who run it

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version
from time import process_time_ns
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

type Pixels = NDArray[np.uint8]

PRODUCTS = {"Convolution", "GroupConvolution", "FullyConnected", "MatMul"}


class Opened(NamedTuple):
    """A file that is ready: one run gives float32 logits [1, classes]."""

    by: str
    run: Callable[[], NDArray[np.float32]]
    computes: Mapping[str, int] = {}


def main(runtime: str, file: str, image: str) -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a runtime prints is no answer
    opened = OPENERS[runtime](file, np.load(image))
    logits = [float(value) for value in opened.run().ravel()]
    print(json.dumps({"by": opened.by, "computes": opened.computes, "logits": logits}), file=answers, flush=True)
    for _ in sys.stdin:
        opened.run()
        start = process_time_ns()
        opened.run()
        print(process_time_ns() - start, file=answers, flush=True)


def onnxruntime(file: str, image: Pixels) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return Opened(f"ONNX Runtime {version('onnxruntime')}", lambda: session.run(["logits"], {"image": image})[0])


def litert(file: str, image: Pixels) -> Opened:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=file, num_threads=1)
    interpreter.allocate_tensors()
    (first,) = interpreter.get_input_details()
    (last,) = (each for each in interpreter.get_output_details() if each["name"].startswith("logits"))

    def run() -> NDArray[np.float32]:
        interpreter.set_tensor(first["index"], image)
        interpreter.invoke()
        logits: NDArray[np.float32] = interpreter.get_tensor(last["index"])
        return logits

    return Opened(f"LiteRT {version('ai-edge-litert')}", run)


def openvino(numbers: str) -> Callable[[str, Pixels], Opened]:
    """In which numbers it may compute what the file has in float32."""

    def opened(file: str, image: Pixels) -> Opened:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # it would tell Google of each import
        import openvino

        core = openvino.Core()
        model = core.read_model(file)
        model.reshape(image.shape)
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": numbers}
        compiled = core.compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()
        output = compiled.output(0)
        return Opened(f"OpenVINO {version('openvino')}", lambda: request.infer([image])[output], products(compiled))

    return opened


def products(compiled: Any) -> dict[str, int]:  # noqa: ANN401 - OpenVINO's own class
    """How many layers that multiply are computed in which numbers, as the plugin says it."""
    said = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    found = [each["runtimePrecision"].astype(str) for each in said if each["layerType"].astype(str) in PRODUCTS]
    return dict(Counter(found))


def torch(file: str, image: Pixels) -> Opened:
    import torch

    torch.set_num_threads(1)
    network = torch._inductor.aoti_load_package(file)
    pixels = torch.from_numpy(image)

    @torch.inference_mode()
    def run() -> NDArray[np.float32]:
        logits: NDArray[np.float32] = network(pixels).numpy()
        return logits

    return Opened(f"torch {version('torch')}", run)


OPENERS: Mapping[str, Callable[[str, Pixels], Opened]] = {
    "onnxruntime": onnxruntime,
    "litert": litert,
    "openvino": openvino("f32"),
    "openvino-bf16": openvino("bf16"),
    "torch": torch,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
