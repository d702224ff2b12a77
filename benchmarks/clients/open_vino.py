"""OpenVINO on the CPU: `python open_vino.py MODEL IMAGES.npy OUT.npz`."""

import json
import sys
from pathlib import Path

import numpy as np

sys.modules["openvino_telemetry"] = None  # nobody is told that it is used
import openvino  # noqa: E402

PRODUCTS = {"Convolution", "FullyConnected", "MatMul"}


def main() -> None:
    """Every image by itself; the outputs by name."""
    model, images, out = sys.argv[1:]
    core = openvino.Core()
    read = core.read_model(model if Path(model).is_file() else Path(model) / "model.xml")
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [min(output.get_names()) for output in compiled.outputs]
    found: dict[str, list] = {name: [] for name in names}
    for pixels in np.load(images):
        result = compiled(pixels[None])
        for place, name in enumerate(names):
            found[name].append(np.array(result[place])[0])
    np.savez(out, **found)
    print(
        json.dumps({"runtime": f"OpenVINO {openvino.__version__.split('-')[0]}", "where": f"CPU, {in_int8(compiled)}"})
    )


def in_int8(compiled: openvino.CompiledModel) -> str:
    """How many convolutions and matrix products the plugin computes in integers, as it says itself."""
    said = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    products = [one["runtimePrecision"].astype(str) for one in said if one["layerType"].astype(str) in PRODUCTS]
    return f"{sum(kind in {'u8', 'i8'} for kind in products)} of {len(products)} products in INT8"


if __name__ == "__main__":
    main()
