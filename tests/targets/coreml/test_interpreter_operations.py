"""Every operation of the interpreter, saved in a tiny ML program and read back, against other implementations.

The reference is ONNX's own in numpy (`onnx.reference`), which shares no code with torch; coremltools' for quantization.
Numbers are small multiples of a power of two, whose sums and products are exact in float32 and in float16: there
results must be equal to the bit. Each program is built for one image and run with several.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from mil_programs import TESTED, Build, builder, built, execute, saved
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.targets.coreml.interpreter_operations import OPERATIONS
from rexnet_export.targets.coreml.package import Package

type Reals = NDArray[np.floating]

COUNTS = st.sampled_from([1, 3, 7])
EXACT, ONE_ROUNDING = 0.0, 1.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """A program of one operation, its inputs for a batch, what ONNX says, and how many roundings they may be apart."""

    build: Build
    inputs: Mapping[str, Reals]
    expected: Reals
    roundings: float = EXACT


def onnx_result(operator: str, inputs: Mapping[str, NDArray[Any]], **attributes: object) -> Reals:
    """One ONNX operator in ONNX's reference implementation."""
    node = helper.make_node(operator, list(inputs), [TESTED], **attributes)
    values = [numpy_helper.from_array(value, name) for name, value in inputs.items()]
    output = helper.make_tensor_value_info(TESTED, onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], operator, [], [output], initializer=values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    (result,) = ReferenceEvaluator(model).run(None, {})
    found: Reals = result
    return found


def eighths(draw: st.DrawFn, shape: tuple[int, ...], limit: int = 64) -> NDArray[np.float32]:
    """Random multiples of 1/8 in [-limit / 8, limit / 8]."""
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(-limit, limit, shape, endpoint=True).astype(np.float32) / 8


def batch_of_maps(draw: st.DrawFn, channels: int | None = None) -> NDArray[np.float32]:
    """Feature maps [N, C, H, W] of odd and even sizes."""
    sizes = st.integers(1, 6)
    return eighths(draw, (draw(st.integers(1, 3)), channels or draw(COUNTS), draw(sizes), draw(sizes)))


def of_one_tensor(mil: str, operator: str, roundings: float) -> Callable[[st.DrawFn, type[np.floating]], Case]:
    def case(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
        mb, x = builder(), batch_of_maps(draw)
        build = lambda x0: getattr(mb, mil)(x=x0, name=TESTED)  # noqa: E731
        return Case(build=build, inputs={"x0": x}, expected=onnx_result(operator, {"x": x}), roundings=roundings)

    return case


def of_two_tensors(mil: str, operator: str) -> Callable[[st.DrawFn, type[np.floating]], Case]:
    """The second one of the same shape, one number a channel (computed, or stored in the program), or one at all."""

    def case(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
        mb, x = builder(), batch_of_maps(draw)
        y = eighths(draw, draw(st.sampled_from([x.shape, (len(x), x.shape[1], 1, 1), (1, x.shape[1], 1, 1)])))
        expected = onnx_result(operator, {"x": x, "y": y})
        if len(y) == len(x):
            return Case(
                build=lambda x0, x1: getattr(mb, mil)(x=x0, y=x1, name=TESTED),
                inputs={"x0": x, "x1": y},
                expected=expected,
            )
        return Case(
            build=lambda x0: getattr(mb, mil)(x=x0, y=dtype(y), name=TESTED), inputs={"x0": x}, expected=expected
        )

    return case


def cast(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    mb, x = builder(), batch_of_maps(draw) / 3
    wanted = "fp32" if dtype is np.float16 else "fp16"
    expected = x.astype(np.float16)
    return Case(
        build=lambda x0: mb.cast(x=x0, dtype=wanted, name=TESTED), inputs={"x0": x.astype(dtype)}, expected=expected
    )


def clip(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    mb, x = builder(), batch_of_maps(draw)
    low = eighths(draw, ())
    high = low + np.float32(draw(st.integers(1, 64)) / 8)  # MIL refuses equal bounds
    expected = onnx_result("Clip", {"x": x, "low": low, "high": high})
    return Case(
        build=lambda x0: mb.clip(x=x0, alpha=dtype(low), beta=dtype(high), name=TESTED),
        inputs={"x0": x},
        expected=expected,
    )


def concat(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    mb, x = builder(), batch_of_maps(draw)
    parts = {"x0": x, "x1": eighths(draw, (len(x), draw(COUNTS), *x.shape[2:])), "x2": x[:, :1]}
    build = lambda x0, x1, x2: mb.concat(values=[x0, x1, x2], axis=1, interleave=False, name=TESTED)  # noqa: E731
    return Case(build=build, inputs=parts, expected=onnx_result("Concat", parts, axis=1))


def conv(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    """Groups (depthwise among them), strides, dilations, borders of four widths, with and without bias."""
    mb, groups = builder(), draw(COUNTS)
    inside, outside = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel, stride, dilation = (draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(3))
    top, left, bottom, right = draw(st.tuples(*[st.integers(0, 2)] * 4))
    size = [dilation[axis] * (kernel[axis] - 1) + draw(st.integers(1, 4)) for axis in (0, 1)]
    x = eighths(draw, (draw(st.integers(1, 3)), groups * inside, *size), limit=16)
    weight = eighths(draw, (groups * outside, inside, *kernel), limit=16)
    bias = {"b": eighths(draw, (groups * outside,))} if draw(st.booleans()) else {}
    expected = onnx_result(
        "Conv",
        {"x": x, "w": weight, **bias},
        group=groups,
        strides=stride,
        dilations=dilation,
        pads=[top, left, bottom, right],
    )
    attributes = {"strides": stride, "dilations": dilation, "groups": groups, "pad": [top, bottom, left, right]}
    stored = {"weight": dtype(weight), **({"bias": dtype(bias["b"])} if bias else {})}
    build = lambda x0: mb.conv(x=x0, **stored, **attributes, pad_type="custom", name=TESTED)  # noqa: E731
    return Case(
        build=build, inputs={"x0": x}, expected=expected, roundings=ONE_ROUNDING if dtype is np.float16 else EXACT
    )


def linear(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    mb, features, classes = builder(), draw(COUNTS), draw(COUNTS)
    x, weight = eighths(draw, (draw(st.integers(1, 3)), features), 16), eighths(draw, (classes, features), 16)
    bias = eighths(draw, (classes,))
    expected = onnx_result("Gemm", {"x": x, "w": weight, "b": bias}, transB=1)
    build = lambda x0: mb.linear(x=x0, weight=dtype(weight), bias=dtype(bias), name=TESTED)  # noqa: E731
    return Case(
        build=build, inputs={"x0": x}, expected=expected, roundings=ONE_ROUNDING if dtype is np.float16 else EXACT
    )


def pad(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    """Behind and before channels, rows and columns, each by another width."""
    mb, x = builder(), batch_of_maps(draw)
    before, after = (draw(st.tuples(*[st.integers(0, 3)] * 3)) for _ in range(2))
    value = eighths(draw, ())
    expected = onnx_result("Pad", {"x": x, "pads": np.int64([0, *before, 0, *after]), "value": value})
    widths = np.int32([0, 0, *(width for pair in zip(before, after, strict=True) for width in pair)])
    build = lambda x0: mb.pad(x=x0, pad=widths, mode="constant", constant_val=dtype(value), name=TESTED)  # noqa: E731
    return Case(build=build, inputs={"x0": x}, expected=expected)


def reduce_mean(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    mb, x = builder(), batch_of_maps(draw)
    build = lambda x0: mb.reduce_mean(x=x0, axes=[2, 3], keep_dims=True, name=TESTED)  # noqa: E731
    return Case(
        build=build, inputs={"x0": x}, expected=onnx_result("GlobalAveragePool", {"x": x}), roundings=ONE_ROUNDING
    )


def relu6(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    mb, x = builder(), batch_of_maps(draw)
    expected = onnx_result("Clip", {"x": x, "low": np.float32(0), "high": np.float32(6)})
    return Case(build=lambda x0: mb.relu6(x=x0, name=TESTED), inputs={"x0": x}, expected=expected)


def silu(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    mb, x = builder(), batch_of_maps(draw)
    expected = x * onnx_result("Sigmoid", {"x": x.astype(np.float64)})
    return Case(build=lambda x0: mb.silu(x=x0, name=TESTED), inputs={"x0": x}, expected=expected, roundings=4)


def softmax(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    mb, x = builder(), eighths(draw, (draw(st.integers(1, 3)), draw(COUNTS)))
    expected = onnx_result("Softmax", {"x": x.astype(np.float64)}, axis=-1)
    return Case(
        build=lambda x0: mb.softmax(x=x0, axis=-1, name=TESTED), inputs={"x0": x}, expected=expected, roundings=16
    )


def squeeze(draw: st.DrawFn, dtype: type[np.floating]) -> Case:
    mb, x = builder(), eighths(draw, (draw(st.integers(1, 3)), draw(COUNTS), 1, 1))
    expected = onnx_result("Squeeze", {"x": x, "axes": np.int64([2, 3])})
    return Case(build=lambda x0: mb.squeeze(x=x0, axes=[2, 3], name=TESTED), inputs={"x0": x}, expected=expected)


CASES: Mapping[str, Callable[[st.DrawFn, type[np.floating]], Case]] = {
    "add": of_two_tensors("add", "Add"),
    "cast": cast,
    "clip": clip,
    "concat": concat,
    "conv": conv,
    "linear": linear,
    "mul": of_two_tensors("mul", "Mul"),
    "pad": pad,
    "reduce_mean": reduce_mean,
    "relu": of_one_tensor("relu", "Relu", EXACT),
    "relu6": relu6,
    "sigmoid": of_one_tensor("sigmoid", "Sigmoid", 4),
    "silu": silu,
    "softmax": softmax,
    "squeeze": squeeze,
}
ELSEWHERE = {"quantize", "dequantize"}  # test_mil_quantization.py


def test_every_operation_has_a_case() -> None:
    assert CASES.keys() | ELSEWHERE == OPERATIONS.keys()
    assert not CASES.keys() & ELSEWHERE


def program_of(case: Case, dtype: type[np.floating]) -> Package:
    """For one image, whatever the batch of the inputs."""
    return built(case.build, [(1, *value.shape[1:]) for value in case.inputs.values()], half=dtype is np.float16)


def check(found: Reals, case: Case, operation: str, dtype: type[np.floating]) -> None:
    expected = case.expected.astype(np.float16 if operation == "cast" else dtype)
    assert found.shape == expected.shape
    apart = np.abs(found.astype(np.float64) - expected)
    assert np.all(apart <= case.roundings * np.spacing(np.abs(expected)).astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("operation", CASES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_operation_is_that_of_onnx(operation: str, dtype: type[np.floating], data: st.DataObject) -> None:
    case = data.draw(st.composite(CASES[operation])(dtype))
    check(execute(program_of(case, dtype), case.inputs), case, operation, dtype)


@pytest.mark.parametrize("operation", CASES)
@settings(max_examples=1, deadline=None, derandomize=True, phases=[Phase.generate])
@given(data=st.data())
def test_saved_operation_is_that_of_onnx(operation: str, data: st.DataObject) -> None:
    case = data.draw(st.composite(CASES[operation])(np.float16))
    package = saved(program_of(case, np.float16))
    assert [op.op_type for op in package.operations if op.op_type != "const"] == [operation]
    check(execute(package, case.inputs), case, operation, np.float16)


@pytest.mark.parametrize("operation", sorted(CASES.keys() - {"cast"}))
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_float32_arithmetic_rounds_nothing_of_a_float16_program(operation: str, data: st.DataObject) -> None:
    case = data.draw(st.composite(CASES[operation])(np.float16))
    found = execute(program_of(case, np.float16), case.inputs, arithmetic="float32")
    np.testing.assert_allclose(found, case.expected, rtol=1e-5, atol=1e-6)


REFUSED: Mapping[str, tuple[Build, str]] = {
    "interleave": (lambda x0: builder().concat(values=[x0, x0], axis=1, interleave=True, name=TESTED), "concat with"),
    "joined images": (lambda x0: builder().concat(values=[x0, x0], axis=0, name=TESTED), "concat with the batch axis"),
    "mean of all": (lambda x0: builder().reduce_mean(x=x0, name=TESTED), "reduce_mean with the batch axis"),
    "negative axis": (lambda x0: builder().softmax(x=x0, axis=-4, name=TESTED), "softmax with the batch axis"),
    "any axis of 1": (lambda x0: builder().squeeze(x=x0, name=TESTED), "squeeze with the batch axis"),
    "reflection": (lambda x0: builder().pad(x=x0, pad=[1, 1], mode="reflect", name=TESTED), "pad with mode 'reflect'"),
    "integers": (lambda x0: builder().cast(x=x0, dtype="int32", name=TESTED), "cast with fp32 to int32"),
    "same size": (
        lambda x0: builder().conv(x=x0, weight=np.ones((1, 1, 2, 2), np.float32), pad_type="same", name=TESTED),
        "conv with pad_type 'same'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_computed_is_refused_by_name(case: str) -> None:
    build, what = REFUSED[case]
    with pytest.raises(ConversionError, match=rf"the interpreter has no {what}.*\({TESTED}\)"):
        execute(built(build, [(1, 1, 4, 4)], half=False), {})
