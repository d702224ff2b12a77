"""Islands of float in every format: computed as the float graph says, from the integers that the file itself has."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.records import Artifact, Precision
from rexnet_export.targets import TARGETS
from rexnet_export.targets.coreml.package import read_package
from rexnet_export.targets.tflite.flatbuffer import read_graph

FORMATS = ("coreml", "ort", "tflite")
# Input and output of islands, and the largest error relative to the output's spread: float16 and quantization apart.
ISLANDS = {
    "input": "stem.silu",  # the first layer
    "features.5.residual": "features.6.relu6",  # two neighbours with squeeze and excitation
    "features.7.relu6": "features.7.project",  # one layer, no activation of its own in float
    "flatten": "logits",  # the last layer
    "features.1.expand.silu": "features.1.relu6",  # strided: TFLite pads its input in INT8
}


@pytest.fixture(scope="module")
def source(mixed_sources: Mapping[Precision, Source]) -> Source:
    return mixed_sources["int8"]


@pytest.fixture(scope="module")
def artifacts(artifact_of: ArtifactOf) -> Mapping[str, Artifact]:
    return {name: artifact_of(name, "int8", "mixed") for name in FORMATS}


def part(source: Source, start: str, end: str) -> onnxruntime.InferenceSession:
    """The float graph between two tensors."""
    model = onnx.shape_inference.infer_shapes(onnx.load(source.float_onnx.path))
    cut = onnx.utils.Extractor(model).extract_model([start], [end])
    return onnxruntime.InferenceSession(cut.SerializeToString())


@pytest.mark.parametrize("name", FORMATS)
def test_islands_compute_what_the_float_graph_does(
    artifacts: Mapping[str, Artifact], source: Source, images: NDArray[np.uint8], name: str
) -> None:
    assert source.table
    trace = TARGETS[name].open(artifacts[name]).trace(images[:2])
    for start, end in ISLANDS.items():
        params = source.table.tensors[end].params
        assert params
        real = np.concatenate([part(source, start, end).run([end], {start: one[None]})[0] for one in trace[start]])
        wanted = params.dequantize(params.quantize(real))
        steps = np.abs(trace[end] - wanted) / params.scale[0]
        # Nothing is rounded inside but, in Core ML, to float16: at most the last integer differs, and seldom.
        assert steps.max() <= 1.01, (start, end)
        assert (steps > 0.5).mean() <= (0.1 if name == "coreml" else 0.001), (start, end)


def test_tflite_converts_at_the_ends_of_islands_only(artifacts: Mapping[str, Artifact]) -> None:
    graph = read_graph(artifacts["tflite"].file.path)
    made = {graph.name(operator.outputs[0]): operator for operator in graph.operators}
    quantized = {name for name, operator in made.items() if graph.kind(operator) == "QUANTIZE"}
    assert quantized == {
        "input.pixels",
        "stem.silu",
        "features.1.relu6",
        "features.4.residual",
        "features.6.relu6",
        "features.7.project",
        "logits.quantized",
    }
    read = Counter(name.removesuffix(".dequantized") for name in made if name.endswith(".dequantized"))
    assert read == Counter(
        [
            "input.padded",
            "features.1.expand.silu.padded",
            "features.3.project",
            "features.4.relu6",
            "features.5.residual",
            "features.7.relu6",
            "flatten",
        ]
    )
    for operator in graph.operators:
        if graph.kind(operator) not in {"QUANTIZE", "DEQUANTIZE"}:
            kinds = {graph.type(index) for index in (*operator.inputs, *operator.outputs)}
            assert not {"INT8", "FLOAT32"} <= kinds, graph.name(operator.outputs[0])


def test_core_ml_computes_islands_in_float16(artifacts: Mapping[str, Artifact]) -> None:
    package = read_package(artifacts["coreml"].file.path)
    kinds = Counter(op.op_type for op in package.operations)
    plain = [op for op in package.operations if op.op_type in {"conv", "linear"} and op.weight.op.op_type == "const"]
    assert len(plain) == 9
    assert all(op.weight.val.dtype == np.float16 for op in plain)
    assert kinds["conv"] + kinds["linear"] - kinds["constexpr_affine_dequantize"] == len(plain)
