"""LiteRT, or tflite-runtime where that is what the environment has: `python litert.py MODEL IMAGES.npy OUT.npz`."""

import importlib
import json
import sys
from importlib.metadata import version

import numpy as np

PACKAGES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}


def main() -> None:
    """Every image by itself; the outputs by name."""
    model, images, out = sys.argv[1:]
    package = next(name for name in PACKAGES if importlib.util.find_spec(name))
    interpreter = importlib.import_module(f"{package}.interpreter").Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    outputs = interpreter.get_output_details()
    found = {output["name"]: [] for output in outputs}
    for pixels in np.load(images):
        interpreter.set_tensor(image["index"], pixels[None])
        interpreter.invoke()
        for output in outputs:
            found[output["name"]].append(interpreter.get_tensor(output["index"])[0])
    np.savez(out, **found)
    print(json.dumps({"runtime": f"{PACKAGES[package]} {version(PACKAGES[package])}", "where": "CPU"}))


if __name__ == "__main__":
    main()
