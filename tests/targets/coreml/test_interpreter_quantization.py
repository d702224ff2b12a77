"""Quantize and dequantize of the interpreter against coremltools' own values of them, and against numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mil_programs import TESTED, builder, built, execute, saved
from numpy.typing import NDArray

from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets.coreml.interpreter_operations import constant, is_constant
from rexnet_export.targets.coreml.interpreter_program import MilProgram
from rexnet_export.targets.coreml.package import Package

RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


@st.composite
def zero_points(draw: st.DrawFn, kind: str) -> int:
    low, high = RANGES[kind]
    return draw(st.sampled_from([low, high, 0]) | st.integers(low, high))


@st.composite
def reals(draw: st.DrawFn, scale: float) -> NDArray[np.float32]:
    """[N, C, 2]: multiples of a quarter of the scale, so many halfway between integers, and far beyond both ends."""
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from([1, 3, 7])), 2)
    seed = draw(st.integers(0, 2**32 - 1))
    quarters = np.random.default_rng(seed).integers(-1200, 1200, shape)
    return (quarters * np.float32(scale / 4)).astype(np.float32)


def round_trip(scale: np.floating | NDArray[np.floating], zero: object, kind: str, shape: tuple[int, ...]) -> Package:
    """x0 -> integers -> real numbers named `tested`."""
    mb = builder()
    channels = {"axis": 1} if np.ndim(scale) else {}

    def build(x0: object) -> object:
        integers = mb.quantize(input=x0, scale=scale, zero_point=zero, output_dtype=kind, name="integers", **channels)
        return mb.dequantize(input=integers, scale=scale, zero_point=zero, name=TESTED, **channels)

    return built(build, [(1, *shape[1:])], half=np.asarray(scale).dtype == np.float16)


def coremltools_value(
    real: NDArray[np.floating], scale: np.floating, zero: np.integer, kind: str
) -> tuple[object, object]:
    """What coremltools computes for a constant input: the integers and the real numbers."""
    mb = builder()
    values = []

    def build(unused: object) -> object:
        integers = mb.quantize(input=real, scale=scale, zero_point=zero, output_dtype=kind)
        again = mb.dequantize(input=integers.val, scale=scale, zero_point=zero)
        values.extend([integers.val, again.op.materialized_val_inference()])
        return mb.identity(x=unused)

    built(build, [(1,)], half=False)
    return values[0], values[1]


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_integers_and_reals_are_those_of_coremltools(kind: str, data: st.DataObject) -> None:
    scale = np.float32(data.draw(st.sampled_from([0.25, 2.0]) | st.floats(2**-8, 4, width=16)))
    zero = np.dtype(kind).type(data.draw(zero_points(kind)))
    real = data.draw(reals(float(scale)))
    integers, again = coremltools_value(real, scale, zero, kind)
    package = round_trip(scale, zero, kind, real.shape)
    found = results(package, real)
    np.testing.assert_array_equal(found["integers"], np.asarray(integers))
    np.testing.assert_array_equal(found[TESTED], np.asarray(again))


def results(package: Package, real: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
    import torch  # noqa: PLC0415

    program = MilProgram(package, {TESTED}, arithmetic="program")
    values = {"x0": torch.from_numpy(real.astype(np.float32))}
    return {step.output: result.numpy() for step, result in program.execute(values)}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_float16_program_rounds_the_real_numbers_once_and_no_quotient(data: st.DataObject) -> None:
    scale = np.float16(data.draw(st.floats(2**-8, 4, width=16)))
    zero = np.int8(data.draw(zero_points("int8")))
    real = data.draw(reals(float(scale))).astype(np.float16)
    found = results(round_trip(scale, zero, "int8", real.shape), real)
    integers = np.clip(np.rint(real.astype(np.float32) / np.float32(scale)) + np.float32(zero), -128, 127)
    np.testing.assert_array_equal(found["integers"], integers)
    exact = (integers - np.float64(zero)) * np.float64(scale)
    np.testing.assert_array_equal(found[TESTED], exact.astype(np.float16))
    # coremltools rounds the quotient to float16: at most one step away, and only next to halves.
    theirs, _ = coremltools_value(real, scale, zero, "int8")
    assert np.abs(integers - np.asarray(theirs, np.float32)).max() <= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-1200, 1200), min_size=1), st.sampled_from([0.25, 0.5, 2.0]), zero_points("int8"))
def test_integers_are_those_of_the_table(quarters: list[int], scale: float, zero: int) -> None:
    real = np.float32([quarters]) / 4
    found = results(round_trip(np.float32(scale), np.int8(zero), "int8", real.shape), real)
    params = QuantParams(scale=(scale,), zero_point=(zero,))
    np.testing.assert_array_equal(found["integers"], params.quantize(real))
    np.testing.assert_array_equal(found[TESTED], params.dequantize(params.quantize(real)))


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_scales_of_channels_and_ends_of_the_range(kind: str) -> None:
    low, high = RANGES[kind]
    scale, zero = np.float32([0.5, 1, 2]), np.dtype(kind).type([low, high, (low + high) // 2])
    real = np.float32([[[-1e9, 1e9, 0.25], [-np.inf, np.inf, -0.5], [3.0, 5.0, -3.0]]])
    found = results(saved(round_trip(scale, zero, kind, real.shape)), real)["integers"]
    middle = (low + high) // 2
    assert found.tolist() == [[[low, high, low], [low, high, high], [middle + 2, middle + 2, middle - 2]]]


def test_a_missing_zero_point_is_zero() -> None:
    mb = builder()

    def build(x0: object) -> object:
        integers = mb.quantize(input=x0, scale=np.float32(0.5), output_dtype="int8", name="integers")
        return mb.dequantize(input=integers, scale=np.float32(0.5), name=TESTED)

    found = execute(built(build, [(1, 2)], half=False), {"x0": np.float32([[0.8, -70]])})
    assert found.tolist() == [[1.0, -64.0]]


def test_stored_weights_are_their_integers_times_the_scale_of_their_channel() -> None:
    mb = builder()
    stored = np.random.default_rng(0).integers(-128, 128, (7, 3, 1, 1)).astype(np.int8)
    scale, zero = np.float16(np.linspace(0.01, 2, 7)), np.int8([0, 1, -1, 127, -128, 5, 0])

    def build(x0: object) -> object:
        weight = mb.constexpr_affine_dequantize(
            quantized_data=stored, scale=scale, zero_point=zero, axis=0, name="weight"
        )
        return mb.conv(x=x0, weight=weight, name=TESTED)

    package = saved(built(build, [(1, 3, 1, 1)], half=True))
    (conv,) = (op for op in package.operations if op.op_type == "conv")
    assert is_constant(conv.weight)
    exact = (stored.astype(np.float64) - zero.reshape(-1, 1, 1, 1)) * scale.astype(np.float64).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(constant(conv.weight).numpy(), exact)
    # Sums of three weights: in float32 of the weights as they are, in the program of weights that are float16 first.
    image, exactly = np.ones((1, 3, 1, 1), np.float32), exact.sum((1, 2, 3))
    rounded = exact.astype(np.float16).astype(np.float64).sum((1, 2, 3)).astype(np.float16)
    assert np.any(rounded != exactly.astype(np.float16))
    np.testing.assert_array_equal(execute(package, {"x0": image})[0, :, 0, 0], rounded)
    np.testing.assert_array_equal(execute(package, {"x0": image}, arithmetic="float32")[0, :, 0, 0], exactly)
