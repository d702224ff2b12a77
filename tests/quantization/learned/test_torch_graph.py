"""Every operator of the float graphs in torch, beside ONNX's own definition of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.learned.torch_graph import Step, last_uses, steps
from rexnet_export.quantization.onnx.view import view

RANDOM = np.random.default_rng(0)
CONSTANTS: dict[str, NDArray[np.generic]] = {
    "weight": RANDOM.normal(size=(6, 2, 3, 3)).astype(np.float32),
    "bias": RANDOM.normal(size=6).astype(np.float32),
    "dense": RANDOM.normal(size=(5, 4)).astype(np.float32),
    "shift": RANDOM.normal(size=5).astype(np.float32),
    "low": np.float32(-0.5),
    "high": np.float32(1.5),
    "pads": np.array([0, 1, 2, 3, 0, 4, 5, 6], np.int64),
    "value": np.float32(0.25),
    "scale": np.float32(0.5),
    "zero": np.uint8(3),
}
CONV = "Conv <kernel_shape = [3, 3], pads = [1, 2, 1, 2], strides = [2, 1], dilations = [1, 2], group = 2>"


def parsed(body: str, kind: str = "float", shape: str = "2, 4, 8, 8") -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 21]> tiny ({kind}[{shape}] x) => (float y) {{ {body} }}"""
    )
    for name, value in CONSTANTS.items():
        if any(name in node.input for node in model.graph.node):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return model


def computed(model: onnx.ModelProto, x: NDArray[np.generic]) -> dict[str, torch.Tensor]:
    tensors = {"x": torch.from_numpy(x)}
    for step in steps(view(model)):
        parameters = [torch.from_numpy(np.asarray(CONSTANTS[name])) for name in step.parameters]
        tensors[step.output] = step.compute(*[tensors[name] for name in step.inputs], *parameters)
    return tensors


@pytest.mark.parametrize(
    "body",
    [
        f"y = {CONV} (x, weight, bias)",
        "y = Sigmoid(x)",
        "y = Relu(x)",
        "y = Clip(x, low, high)",
        "a = Relu(x) y = Mul(x, a)",
        "a = Relu(x) y = Add(x, a)",
        "a = Relu(x) y = Concat <axis = 1> (x, a, x)",
        "y = GlobalAveragePool(x)",
        "y = Flatten(x)",
        "y = Pad(x, pads)",
        "y = Pad(x, pads, value)",
        "y = Transpose <perm = [0, 3, 1, 2]> (x)",
    ],
)
def test_operators_give_what_onnx_defines(body: str) -> None:
    x = RANDOM.normal(size=(2, 4, 8, 8)).astype(np.float32)
    model = parsed(body)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    found = computed(model, x)["y"].numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_product_gives_what_onnx_defines() -> None:
    x = RANDOM.normal(size=(3, 4)).astype(np.float32)
    model = parsed("y = Gemm <transB = 1> (x, dense, shift)", shape="3, 4")
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(computed(model, x)["y"].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_pixels_become_numbers() -> None:
    x = np.array([[0, 3, 255]], np.uint8)
    model = parsed("y = DequantizeLinear(x, scale, zero)", "uint8", "1, 3")
    assert computed(model, x)["y"].tolist() == [[-1.5, 0.0, 126.0]]


def test_a_step_knows_what_it_reads_and_a_convolution_how() -> None:
    conv, act = steps(view(parsed(f"a = {CONV} (x, weight, bias) y = Clip(a, low, high)")))
    assert (conv.op, conv.output, conv.inputs, conv.parameters) == ("Conv", "a", ("x",), ("weight", "bias"))
    assert conv.geometry == {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
    assert (act.inputs, act.parameters, act.geometry) == (("a",), (), {})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("y = Elu(x)", "Elu  is no operator that can be trained here"),
        (f"y = {CONV.replace('[1, 2, 1, 2]', '[1, 2, 1, 1]')} (x, weight, bias)", r"padded by \[1, 2\] and \[1, 1\]"),
    ],
)
def test_what_torch_cannot_do_here_is_refused(body: str, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        steps(view(parsed(body)))


def test_tensors_may_be_forgotten_after_their_last_use() -> None:
    def step(output: str, *inputs: str) -> Step:
        return Step(op="", output=output, inputs=inputs, parameters=(), geometry={}, compute=torch.relu)

    graph = (step("a", "x"), step("b", "a", "x"), step("c", "b"), step("d", "a", "c"))
    assert last_uses(graph) == (set(), {"x"}, {"b"}, {"a", "c"})
