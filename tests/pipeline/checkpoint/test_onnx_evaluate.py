"""What the small evaluator computes is what ONNX Runtime computes; what it does not know it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rexnet_export.pipeline.checkpoint.onnx_evaluate import NotRecognised, evaluate

type Constants = dict[str, NDArray[np.generic]]

CHANCE = np.random.default_rng(0)
IMAGE = CHANCE.normal(size=(2, 4, 6, 5)).astype(np.float32)


def numbers(*shape: int) -> NDArray[np.float32]:
    return np.asarray(CHANCE.uniform(0.1, 1, shape), np.float32)


def whole(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def node(kind: str, *names: str, to: str = "y", **attributes: Any) -> onnx.NodeProto:  # noqa: ANN401 - as ONNX has them
    return helper.make_node(kind, names, [to], **attributes)


def graph(nodes: Sequence[onnx.NodeProto], constants: Constants, opset: int = 17) -> onnx.ModelProto:
    made = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE.shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def evaluated(model: onnx.ModelProto, constants: Constants) -> NDArray[np.generic]:
    held = {name: torch.from_numpy(np.array(values)) for name, values in constants.items()}
    output, _ = evaluate(model, torch.from_numpy(IMAGE), held)
    return output.numpy()


KNOWN: dict[str, tuple[list[onnx.NodeProto], Constants, int]] = {
    "a convolution with strides, pads and groups": (
        [node("Conv", "x", "w", "b", strides=[2, 1], pads=[1, 0, 1, 0], group=2)],
        {"w": numbers(6, 2, 3, 3), "b": numbers(6)},
        17,
    ),
    "BatchNorm of another epsilon": (
        [node("Conv", "x", "w", to="c"), node("BatchNormalization", "c", "s", "b", "m", "v", epsilon=0.01)],
        {"w": numbers(3, 4, 1, 1), "s": numbers(3), "b": numbers(3), "m": numbers(3), "v": numbers(3)},
        17,
    ),
    "Gemm as it is stored": (
        [node("Flatten", "x", to="f"), node("Gemm", "f", "w", "b")],
        {"w": numbers(120, 3), "b": numbers(3)},
        17,
    ),
    "Gemm transposed, one bias for all": (
        [node("Flatten", "x", to="f"), node("Gemm", "f", "w", "b", transB=1)],
        {"w": numbers(3, 120), "b": numbers(1)},
        17,
    ),
    "MatMul and Add": (
        [node("Flatten", "x", to="f"), node("MatMul", "f", "w", to="p"), node("Add", "b", "p")],
        {"w": numbers(120, 3), "b": numbers(3)},
        17,
    ),
    "Mul of what broadcasts": ([node("Mul", "x", "s")], {"s": numbers(4, 1, 1)}, 17),
    "Clip by inputs": ([node("Clip", "x", "low", "high")], {"low": np.float32(-0.5), "high": np.float32(0.25)}, 17),
    "Clip without an upper end": ([node("Clip", "x", "low")], {"low": np.float32(0)}, 17),
    "Clip by attributes": ([node("Clip", "x", min=-0.5, max=0.25)], {}, 7),
    "Slice by inputs, backwards": (
        [node("Slice", "x", "start", "end", "axes", "steps")],
        {"start": whole(1, 0), "end": whole(3, 5), "axes": whole(1, 2), "steps": whole(1, 2)},
        17,
    ),
    "Slice by attributes, axes left out": ([node("Slice", "x", starts=[0, 1], ends=[1, 9])], {}, 9),
    "Pad by inputs": (
        [node("Pad", "x", "pads", "value")],
        {"pads": whole(0, 1, 2, 0, 0, 0, 1, 3), "value": np.float32(2)},
        17,
    ),
    "Pad by attributes": ([node("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 3, 4])], {}, 9),
    "ReduceMean by attributes": ([node("ReduceMean", "x", axes=[2, 3], keepdims=0)], {}, 17),
    "ReduceMean by inputs": ([node("ReduceMean", "x", "axes")], {"axes": whole(2, 3)}, 18),
    "GlobalAveragePool and Squeeze of all": ([node("GlobalAveragePool", "x", to="p"), node("Squeeze", "p")], {}, 17),
    "Squeeze by attributes": ([node("GlobalAveragePool", "x", to="p"), node("Squeeze", "p", axes=[2, 3])], {}, 11),
    "Unsqueeze by inputs": ([node("Unsqueeze", "x", "axes")], {"axes": whole(4, 0)}, 17),
    "Reshape with 0 and -1": ([node("Reshape", "x", "shape")], {"shape": whole(0, -1)}, 17),
    "Reshape to a shape that is computed": (
        [
            node("Shape", "x", to="all"),
            node("Slice", "all", "zero", "one", to="batch"),
            node("Concat", "batch", "rest", to="shape", axis=0),
            node("Reshape", "x", "shape"),
        ],
        {"zero": whole(0), "one": whole(1), "rest": whole(-1)},
        17,
    ),
    "a part of a shape": (
        [helper.make_node("Shape", ["x"], ["all"], start=1, end=3), helper.make_node("Cast", ["all"], ["y"], to=1)],
        {},
        17,
    ),
    "Expand": (
        [node("ReduceMean", "x", to="p", axes=[2, 3]), node("Expand", "p", "shape")],
        {"shape": whole(1, 1, 3, 2)},
        17,
    ),
    "a Constant of numbers": (
        [node("Constant", to="c", value_floats=[1.0, 2.0, 3.0, 4.0, 5.0]), node("Add", "x", "c")],
        {},
        17,
    ),
    "a Constant tensor": (
        [node("Constant", to="c", value=numpy_helper.from_array(np.float32(3))), node("Mul", "x", "c")],
        {},
        17,
    ),
    "CastLike": ([node("CastLike", "n", "x", to="c"), node("Mul", "x", "c")], {"n": whole(3)}, 17),
    "HardSigmoid of a slope, and Tanh": (
        [node("HardSigmoid", "x", to="h", alpha=0.3, beta=0.4), node("Tanh", "h")],
        {},
        17,
    ),
    "HardSwish, and Div": ([node("HardSwish", "x", to="h"), node("Div", "h", "s")], {"s": numbers(4, 1, 1)}, 17),
    "Relu, Sigmoid, Identity": (
        [node("Relu", "x", to="r"), node("Sigmoid", "r", to="s"), node("Identity", "s")],
        {},
        17,
    ),
}


@pytest.mark.parametrize("case", KNOWN)
def test_it_computes_what_onnx_runtime_does(case: str) -> None:
    nodes, constants, opset = KNOWN[case]
    model = graph(nodes, constants, opset)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": IMAGE})
    found = evaluated(model, constants)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


WEIGHT = {"w": numbers(4, 4, 3, 3)}
REFUSED: dict[str, tuple[list[onnx.NodeProto], Constants, str]] = {
    "an operator that no exporter writes": ([node("Sin", "x")], {}, "operator Sin"),
    "another domain's": ([node("Relu", "x", domain="com.example")], {}, "operator Relu"),
    "what is computed later": ([node("Relu", "z")], {}, "computed later, or never"),
    "weights from the image": ([node("Conv", "x", "x")], {}, "weights that are computed"),
    "a dilated convolution": ([node("Conv", "x", "w", dilations=[2, 2])], WEIGHT, "padded or dilated unusually"),
    "padding by a word": ([node("Conv", "x", "w", auto_pad="SAME_UPPER")], WEIGHT, "padded or dilated unusually"),
    "padding of one side": ([node("Conv", "x", "w", pads=[1, 1, 0, 0])], WEIGHT, "larger or padded otherwise"),
    "wide padding": ([node("Conv", "x", "w", pads=[9, 9, 9, 9])], WEIGHT, "larger or padded otherwise"),
    "BatchNorm of the image": (
        [node("BatchNormalization", "x", "s", "s", "s", "s")],
        {"s": numbers(4)},
        "follows no convolution",
    ),
    "Gemm with a factor": (
        [node("Flatten", "x", to="f"), node("Gemm", "f", "w", alpha=0.5)],
        {"w": numbers(120, 3)},
        "with factors",
    ),
    "Gemm of the other side": (
        [node("Flatten", "x", to="f"), node("Gemm", "f", "w", transA=1)],
        {"w": numbers(2, 3)},
        "with factors",
    ),
    "a reflecting Pad": (
        [node("Pad", "x", "pads", mode="reflect")],
        {"pads": whole(0, 0, 1, 1, 0, 0, 1, 1)},
        "an unusual Pad",
    ),
    "a Pad that cuts": ([node("Pad", "x", "pads")], {"pads": whole(0, 0, -1, 0, 0, 0, 0, 0)}, "an unusual Pad"),
    "a Pad too wide": ([node("Pad", "x", "pads")], {"pads": whole(0, 0, 0, 4097, 0, 0, 0, 0)}, "an unusual Pad"),
    "a Cast to halves": (
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16)],
        {},
        "a Cast to another type",
    ),
    "an Expand without end": ([node("Expand", "x", "shape")], {"shape": whole(2**20, 1, 1, 1, 1)}, "a tensor of"),
    "a product without end": ([node("Add", "x", "wide")], {"wide": numbers(2**21, 1, 1, 1, 1)}, "a tensor of"),
    "a constant without a value": (
        [node("Constant", to="c"), node("Add", "x", "c")],
        {},
        "Constant cannot be computed",
    ),
    "shapes that do not fit": ([node("Reshape", "x", "shape")], {"shape": whole(7)}, "Reshape cannot be computed"),
    "an output that is whole numbers": ([node("Shape", "x")], {}, "an output that is no numbers"),
    "many nodes": ([node("Relu", "x")] * 5001, {}, "5,001 nodes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_does_not_know_it_refuses(case: str) -> None:
    nodes, constants, reason = REFUSED[case]
    with pytest.raises(NotRecognised, match=reason):
        evaluated(graph(nodes, constants), constants)


def test_work_is_bounded_in_all() -> None:
    names = ["x", *(f"c{index}" for index in range(600)), "y"]
    wide = {"w": np.zeros((4, 4, 1, 1), np.float32), "shape": whole(2, 4, 600, 500)}
    first = node("Expand", "p", "shape", to="e")
    nodes = [node("GlobalAveragePool", "x", to="p"), first]
    nodes += [node("Relu", one, to=other) for one, other in zip(["e", *names[1:-1]], names[1:], strict=True)]
    with pytest.raises(NotRecognised, match="268,435,456 numbers are not enough"):
        evaluated(graph(nodes, wide), wide)


def test_a_graph_has_one_image_and_one_answer() -> None:
    model = graph([node("Relu", "x")], {})
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    with pytest.raises(NotRecognised, match="2 inputs and 1 outputs"):
        evaluated(model, {})
