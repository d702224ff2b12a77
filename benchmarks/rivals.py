"""Quantize one float model with another project's quantizer, in an environment of its own (`rivals-requirements.txt`).

    VENV/bin/python benchmarks/rivals.py METHOD MODEL INPUTS.npy OUTPUT

MODEL is the network behind its image front, float32 `input` -> `logits`: an `.onnx` in NCHW, or a float `.tflite` in
NHWC; for an OpenVINO IR it is the whole float graph, of uint8 images. INPUTS are the calibration inputs [n, ...] in the
same layout. The last line printed is JSON: seconds, peak memory and versions. Nothing of rexnet_export is imported.
Each function is one documented way to call the tool.
"""

# ruff: noqa: PLC0415 - each tool is imported only by those who run it

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

type Inputs = NDArray[np.float32]
type Quantize = Callable[[Path, Inputs, Path], None]

INPUT, SIGNATURE = "input", "serving_default"
KIB_PER_MIB = 1024


def main(method: str, model: str, inputs: str, output: str) -> None:
    values = np.load(inputs)
    start = perf_counter()
    METHODS[method](Path(model), values, Path(output))
    spent = perf_counter() - start
    packages = ("ai-edge-quantizer", "nncf", "onnxruntime", "openvino")
    used = {name: version(name) for name in packages if name.replace("-", "_") in sys.modules}
    print(json.dumps({"seconds": round(spent, 1), "peak_mib": peak_mib(), "versions": used}))


def peak_mib() -> int | None:
    """Most memory this process has held; `ru_maxrss` would count what its parent held when it started it."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) // KIB_PER_MIB for line in lines if line.startswith("VmHWM:")), None)


def ort_defaults(model: Path, inputs: Inputs, output: Path) -> None:
    """`quantize_static` as one calls it first: QDQ, INT8 activations (ONNX Runtime runs them as UINT8), per tensor."""
    _ort(model, inputs, output)


def ort(calibration: str, **extra: float) -> Quantize:
    """What its documentation advises on CPUs: asymmetric UINT8 activations, symmetric INT8 weights per channel."""

    def quantize(model: Path, inputs: Inputs, output: Path) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantType

        _ort(
            model,
            inputs,
            output,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[calibration],
            extra_options=extra,
        )

    return quantize


def _ort(model: Path, inputs: Inputs, output: Path, **settings: Any) -> None:  # noqa: ANN401 - its keywords
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, Inputs]] = iter([{INPUT: value[None]} for value in inputs])

        def get_next(self) -> dict[str, Inputs] | None:
            return next(self.feeds, None)

    # Its `quant_pre_process` (shapes, BatchNorm) has nothing to do: the graph has shapes and no BatchNorm.
    quantize_static(model, output, Reader(), **settings)


def nncf_defaults(model: Path, inputs: Inputs, output: Path) -> None:
    """Preset `performance` (symmetric), fast bias correction."""
    _nncf(model, inputs, output)


def nncf_bias_correction(model: Path, inputs: Inputs, output: Path) -> None:
    """Preset `mixed` (asymmetric activations), advised for networks that are not plain ReLU ones; full correction."""
    from nncf import QuantizationPreset

    _nncf(model, inputs, output, preset=QuantizationPreset.MIXED, fast_bias_correction=False)


def nncf_smoothquant(model: Path, inputs: Inputs, output: Path) -> None:
    """Preset `mixed`, SmoothQuant, which comes with model type `transformer`, switched on for convolutions too."""
    from nncf import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
        ModelType,
        QuantizationPreset,
    )

    smooth = AdvancedSmoothQuantParameters(convolution=0.5)
    _nncf(
        model,
        inputs,
        output,
        preset=QuantizationPreset.MIXED,
        model_type=ModelType.TRANSFORMER,
        advanced_parameters=AdvancedQuantizationParameters(smooth_quant_alphas=smooth),
    )


def _nncf(model: Path, inputs: Inputs, output: Path, **settings: Any) -> None:  # noqa: ANN401 - its keywords
    import nncf
    import onnx

    images = nncf.Dataset(list(inputs), lambda value: {INPUT: value[None]})
    onnx.save(nncf.quantize(onnx.load(model), images, subset_size=len(inputs), **settings), output)


def nncf_openvino(model: Path, inputs: Inputs, output: Path) -> None:
    """OpenVINO's own way: its model of the float graph in, NNCF's defaults, its IR out."""
    import nncf
    import openvino

    images = nncf.Dataset(list(inputs), lambda value: value[None])
    quantized = nncf.quantize(openvino.convert_model(model), images, subset_size=len(inputs))
    openvino.save_model(quantized, output)


def ai_edge(model: Path, inputs: Inputs, output: Path) -> None:
    """Its recipe for INT8 weights and activations, ranges by its own moving average."""
    from ai_edge_quantizer import quantizer, recipe

    quantizing = quantizer.Quantizer(str(model))
    quantizing.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = quantizing.calibrate({SIGNATURE: [{INPUT: value[None]} for value in inputs]})
    output.write_bytes(quantizing.quantize(ranges).quantized_model)


METHODS: Mapping[str, Quantize] = {
    "ort-defaults": ort_defaults,
    "ort-min-max": ort("MinMax"),
    "ort-moving-average": ort("MinMax", CalibMovingAverage=True),
    "ort-percentile": ort("Percentile", CalibPercentile=99.99),
    "ort-entropy": ort("Entropy"),
    "nncf-defaults": nncf_defaults,
    "nncf-bias-correction": nncf_bias_correction,
    "nncf-smoothquant": nncf_smoothquant,
    "nncf-openvino": nncf_openvino,
    "ai-edge": ai_edge,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
