"""The interpreter against ONNX Runtime on the graphs the packages were made from, and against the arithmetic."""

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rexnet_export.pipeline.errors import ConversionError, DataError
from rexnet_export.pipeline.records import Precision, StoredFile
from rexnet_export.pipeline.target import Source
from rexnet_export.quantization.qparams import QuantParams
from rexnet_export.targets import mil_interpreter
from rexnet_export.targets.coreml import CoreML
from rexnet_export.targets.coreml_mil import onnx_name
from rexnet_export.targets.coreml_package import Package, read_package, type_name
from rexnet_export.targets.mil_interpreter import OPERATIONS, MilSession, constant, data_inputs

type Images = NDArray[np.uint8]
type Logits = NDArray[np.float32]
type Sources = Mapping[Precision, Source]


@pytest.fixture(scope="module")
def packages(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Mapping[Precision, Package]:
    folder, target = tmp_path_factory.mktemp("mil"), CoreML()
    converted = {name: target.convert(sources[name], folder, name) for name in target.precisions}
    return {name: read_package(artifact.file.path) for name, artifact in converted.items()}


def onnx_logits(graph: StoredFile | None, images: Images) -> Logits:
    """What the graph says, node by node."""
    assert graph
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (logits,) = onnxruntime.InferenceSession(graph.path, options).run(["logits"], {"image": images})
    return logits


def signal_to_noise(reference: Logits, candidate: Logits) -> float:
    """In decibels, of what differs between images."""
    reference, candidate = reference - reference.mean(0), candidate - candidate.mean(0)
    return float(10 * np.log10(np.sum(reference**2) / np.sum((reference - candidate) ** 2)))


def test_float32_program_is_the_float_graph(
    packages: Mapping[Precision, Package], sources: Sources, images: Images
) -> None:
    expected = onnx_logits(sources["fp32"].float_onnx, images)
    np.testing.assert_allclose(MilSession(packages["fp32"]).run(images), expected, rtol=1e-4, atol=1e-4)


def test_float16_program_is_near_the_float_graph(
    packages: Mapping[Precision, Package], sources: Sources, images: Images
) -> None:
    expected = onnx_logits(sources["fp32"].float_onnx, images)
    logits = MilSession(packages["fp16"]).run(images)
    assert signal_to_noise(expected, logits) > 30
    np.testing.assert_array_equal(logits, logits.astype(np.float16))


def every_tensor(graph: StoredFile | None, images: Images) -> dict[str, NDArray[np.float32]]:
    """Each node's result in ONNX Runtime, unoptimized, by name."""
    assert graph
    model = onnx.load(graph.path)
    shapes = {value.name: value for value in model.graph.value_info}
    names = [node.output[0] for node in model.graph.node if node.output[0] in shapes]
    model.graph.output.extend(shapes[name] for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


@pytest.mark.parametrize("precision", ["float16 rounding", "no rounding"])
def test_every_int8_layer_gives_the_integers_of_the_qdq_graph(
    packages: Mapping[Precision, Package], sources: Sources, images: Images, precision: str
) -> None:
    """Each layer from ONNX Runtime's own integers: errors neither add up nor hide behind each other."""
    half = precision == "float16 rounding"
    expected = every_tensor(sources["int8"].qdq_onnx, images)
    values = {"image": torch.tensor(images).permute(0, 3, 1, 2).float()}
    compared, equal = 0, []
    for op in packages["int8"].operations:
        if op.op_type not in OPERATIONS:
            continue
        inputs = {}
        for key, var in data_inputs(op).items():
            stored = constant(var, half=half)
            inputs[key] = values[var.name] if stored is None else stored
        result = OPERATIONS[op.op_type](op, inputs)
        result = result.half().float() if half and type_name(op.outputs[0]) == "fp16" else result
        if type_name(op.outputs[0]) == "int8":
            integers = torch.tensor(expected[onnx_name(op.outputs[0].name)].astype(np.float32))
            assert (result - integers).abs().max() <= 1, op.outputs[0].name
            equal.append((result == integers).float().mean().item())
            compared, result = compared + 1, integers
        values[op.outputs[0].name] = result
    assert compared == sum(name.endswith(".q") for name in expected)
    assert min(equal) > (0.85 if half else 0.99)
    assert np.mean(equal) > (0.98 if half else 0.999)


def test_batches_do_not_matter(
    packages: Mapping[Precision, Package], images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = MilSession(packages["fp32"])
    whole = session.run(images)
    monkeypatch.setattr(mil_interpreter, "BATCH", 4)
    np.testing.assert_allclose(session.run(images), whole, rtol=1e-4, atol=1e-4)


@given(
    st.lists(st.integers(-1200, 1200), min_size=1),
    st.sampled_from([0.25, 0.5, 2.0]),
    st.integers(-128, 127),
)
def test_quantize_rounds_half_to_even_and_saturates(quarters: list[int], scale: float, zero_point: int) -> None:
    real = np.float32(quarters) / 4  # many of them halfway between two integers
    op = SimpleNamespace(scale=SimpleNamespace(val=np.float32(scale)), zero_point=SimpleNamespace(val=zero_point))
    params = QuantParams(scale=(scale,), zero_point=(zero_point,))
    integers = OPERATIONS["quantize"](op, {"input": torch.tensor(real)})
    np.testing.assert_array_equal(integers.numpy(), params.quantize(real))
    reals = OPERATIONS["dequantize"](op, {"input": integers})
    np.testing.assert_array_equal(reals.numpy(), params.dequantize(integers.numpy().astype(np.int64)))


def test_pad_puts_values_behind_the_channels() -> None:
    op = SimpleNamespace(
        pad=SimpleNamespace(val=np.int32([0, 0, 0, 1, 0, 0, 0, 0])), constant_val=SimpleNamespace(val=np.float16(0.5))
    )
    padded = OPERATIONS["pad"](op, {"x": torch.zeros(2, 3, 4, 4)})
    assert padded.shape == (2, 4, 4, 4)
    assert padded[:, 3].unique().tolist() == [0.5]
    assert padded[:, :3].unique().tolist() == [0.0]


def test_unknown_operation_is_named(packages: Mapping[Precision, Package], monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: function for name, function in OPERATIONS.items() if name != "reduce_mean"}
    monkeypatch.setattr(mil_interpreter, "OPERATIONS", known)
    with pytest.raises(ConversionError, match=r"the interpreter has no reduce_mean \(pool\)"):
        MilSession(packages["fp32"])


def test_images_of_another_size_are_refused(packages: Mapping[Precision, Package], images: Images) -> None:
    with pytest.raises(DataError, match=r"uint8 \[N, 32, 32, 3\]"):
        MilSession(packages["fp32"]).run(images[:, :16])
