"""MNN, its own converter first: `python mnn_runtime.py MODEL IMAGES.npy OUT.npz`."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import MNN
import numpy as np


def main() -> None:
    """Every image by itself; the outputs by name."""
    model, images, out = sys.argv[1:]
    framework = "TFLITE" if model.endswith(".tflite") else "ONNX"
    converted = f"{out}.mnn"
    tool = Path(sys.executable).with_name("mnnconvert")
    subprocess.run(
        [tool, "-f", framework, "--modelFile", model, "--MNNModel", converted, "--bizCode", "x"],
        check=True,
        capture_output=True,
    )
    interpreter = MNN.Interpreter(converted)
    session = interpreter.createSession({"numThread": 1})
    image = interpreter.getSessionInput(session)
    found: dict[str, list] = {}
    for pixels in np.load(images):
        real = pixels.dtype == np.float32
        kind = MNN.Halide_Type_Float if real else MNN.Halide_Type_Uint8
        layout = MNN.Tensor_DimensionType_Caffe if real else MNN.Tensor_DimensionType_Tensorflow
        image.copyFrom(MNN.Tensor((1, *pixels.shape), kind, np.ascontiguousarray(pixels[None]), layout))
        interpreter.runSession(session)
        for name, output in interpreter.getSessionOutputAll(session).items():
            found.setdefault(name, []).append(np.array(output.getNumpyData()).reshape(-1))
    np.savez(out, **found)
    print(json.dumps({"runtime": f"MNN {version('MNN')}", "where": "CPU"}))


if __name__ == "__main__":
    main()
