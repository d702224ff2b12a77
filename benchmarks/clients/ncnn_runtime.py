"""ncnn, its converter pnnx first: `python ncnn_runtime.py MODEL IMAGES.npy OUT.npz`."""

import json
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import ncnn
import numpy as np


def main() -> None:
    """Every image by itself; its one output."""
    model, images, out = sys.argv[1:]
    pixels = np.load(images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(model, folder / "model.onnx")
        shape = ",".join(map(str, (1, *pixels.shape[1:])))
        tool = Path(sys.executable).with_name("pnnx")
        done = subprocess.run(
            [tool, "model.onnx", f"inputshape=[{shape}]"], cwd=folder, capture_output=True, text=True, check=False
        )
        if not (folder / "model.ncnn.param").exists():
            sys.exit(f"pnnx: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
        network = ncnn.Net()
        if network.load_param(str(folder / "model.ncnn.param")) or network.load_model(str(folder / "model.ncnn.bin")):
            sys.exit("ncnn does not load what pnnx made")
    found = []
    for image in pixels:
        extractor = network.create_extractor()
        extractor.input(network.input_names()[0], ncnn.Mat(np.ascontiguousarray(image)).clone())
        code, result = extractor.extract(network.output_names()[0])
        if code:
            sys.exit(f"ncnn ends with {code}")
        found.append(np.array(result).reshape(-1))
    np.savez(out, logits=np.stack(found))
    print(json.dumps({"runtime": f"ncnn {version('ncnn')}, pnnx {version('pnnx')}", "where": "CPU"}))


if __name__ == "__main__":
    main()
