"""ONNX Runtime at its defaults: `python onnx_runtime.py MODEL IMAGES.npy OUT.npz`."""

import json
import sys

import numpy as np
import onnxruntime


def main() -> None:
    """Every image by itself; the outputs by name."""
    model, images, out = sys.argv[1:]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    found = [session.run(names, {image.name: pixels[None]}) for pixels in np.load(images)]
    np.savez(out, **{name: np.concatenate([each[place] for each in found]) for place, name in enumerate(names)})
    print(json.dumps({"runtime": f"ONNX Runtime {onnxruntime.__version__}", "where": "CPU"}))


if __name__ == "__main__":
    main()
