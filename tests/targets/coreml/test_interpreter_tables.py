"""Tables in place of operations: the results of a program to the last bit, without the work."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mil_programs import TESTED, Build, builder, built
from numpy.typing import NDArray
from torch import Tensor

from rexnet_export.targets.coreml import interpreter_program
from rexnet_export.targets.coreml.interpreter_operations import OPERATIONS
from rexnet_export.targets.coreml.interpreter_program import Arithmetic, MilProgram
from rexnet_export.targets.coreml.interpreter_tables import looked_up
from rexnet_export.targets.coreml.package import Package

ALL_HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32).reshape(-1, 4)
SCALE, ZERO = np.float16(0.0625), np.int8(-3)


def both_ways(
    package: Package, *inputs: Tensor, arithmetic: Arithmetic = "program"
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The bits of `tested`, with tables and operation by operation."""
    program = MilProgram(package, {TESTED}, arithmetic=arithmetic)
    given_ = {f"x{index}": values for index, values in enumerate(inputs)}
    found = program.run(given_)[TESTED]
    expected = {step.output: result for step, result in program.execute(given_)}[TESTED]
    assert found.shape == expected.shape
    assert found.stride() == expected.stride()
    return bits(found), bits(expected)


def bits(values: Tensor) -> NDArray[np.uint32]:
    """One pattern for every NaN: nobody reads which one it is."""
    plain = np.ascontiguousarray(values.numpy())
    return np.where(np.isnan(plain), np.float32(np.nan), plain).view(np.uint32)


def of_a_sum(build: Callable[[object], object]) -> Build:
    """`build` on the sum of two inputs, which follows from no one float16 number."""
    return lambda x0, x1: build(builder().add(x=x0, y=x1, name="sum"))


def stored(real: object, **named: str) -> object:
    """Through int8 and back."""
    mb = builder()
    integers = mb.quantize(input=real, scale=SCALE, zero_point=ZERO, output_dtype="int8")
    return mb.dequantize(input=integers, scale=SCALE, zero_point=ZERO, **named)


def activation(real: object) -> object:
    """What an INT8 network has between two convolutions: x * sigmoid(x), every tensor of it through int8."""
    mb, real = builder(), stored(real)
    return stored(mb.mul(x=real, y=stored(mb.sigmoid(x=real))), name=TESTED)


@pytest.mark.parametrize("operation", ["sigmoid", "silu", "relu", "relu6"])
def test_all_float16_numbers_have_the_results_of_the_operation(operation: str) -> None:
    build = of_a_sum(lambda x: getattr(builder(), operation)(x=x, name=TESTED))
    found, expected = both_ways(
        built(build, [(1, 4), (1, 4)], half=True), torch.from_numpy(ALL_HALVES), torch.zeros(2**14, 4)
    )
    np.testing.assert_array_equal(found, expected)


def test_all_float16_numbers_have_the_results_of_a_whole_activation() -> None:
    package = built(of_a_sum(activation), [(1, 4), (1, 4)], half=True)
    found, expected = both_ways(package, torch.from_numpy(ALL_HALVES), torch.zeros(2**14, 4))
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 50


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.sampled_from([1, 3, 7]), st.integers(1, 5), st.integers(1, 5)),
    channels_last=st.booleans(),
    broadcast=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_maps_of_every_shape_and_order_in_memory(
    shape: tuple[int, int, int, int], *, channels_last: bool, broadcast: bool, seed: int
) -> None:
    other = (*shape[:2], 1, 1) if broadcast else shape
    random = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(each, generator=random) * 4 for each in (shape, other))
    if channels_last:
        x, y = (each.contiguous(memory_format=torch.channels_last) for each in (x, y))
    package = built(of_a_sum(activation), [(1, *shape[1:]), (1, *other[1:])], half=True)
    np.testing.assert_array_equal(*both_ways(package, x, y))


def test_numbers_with_gaps_between_them_are_looked_up_too() -> None:
    whole = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    doubles = 2 * torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.float16).float()
    for real in (whole[:, ::2], whole[:, :1].expand(2, 8, 3, 3), whole.permute(3, 1, 0, 2)):
        np.testing.assert_array_equal(looked_up(doubles, real), 2 * real.half().float())


def test_one_number_for_all_is_part_of_a_table_and_one_for_each_channel_is_none() -> None:
    mb = builder()

    def build(x: object) -> object:
        x = mb.mul(x=x, y=np.float16(1.5))
        return mb.mul(x=mb.sigmoid(x=x), y=np.float16([0.5, 2, 3]).reshape(1, 3, 1, 1), name=TESTED)

    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    package = built(of_a_sum(build), [(1, 3, 4, 4), (1, 3, 4, 4)], half=True)
    np.testing.assert_array_equal(*both_ways(package, x, torch.zeros_like(x)))


def test_scales_of_channels_are_no_table() -> None:
    mb = builder()
    scales, zeros = np.float16([0.5, 1, 2]), np.int8([0, 1, -1])

    def build(x: object) -> object:
        integers = mb.quantize(input=x, scale=scales, zero_point=zeros, output_dtype="int8", axis=1)
        return mb.dequantize(input=integers, scale=scales, zero_point=zeros, axis=1, name=TESTED)

    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 50
    package = built(of_a_sum(build), [(1, 3, 4, 4), (1, 3, 4, 4)], half=True)
    np.testing.assert_array_equal(*both_ways(package, x, torch.zeros_like(x)))


def test_two_numbers_of_the_same_place_are_no_function_of_one() -> None:
    mb = builder()

    def build(x0: object, x1: object) -> object:
        return mb.mul(x=mb.sigmoid(x=mb.add(x=x0, y=x1)), y=mb.relu(x=mb.mul(x=x0, y=x1)), name=TESTED)

    x, y = (torch.randn(2, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(*both_ways(built(build, [(1, 5), (1, 5)], half=True), x, y))


def test_a_result_that_others_read_too_is_there_as_itself() -> None:
    mb = builder()

    def build(x: object) -> object:
        return mb.add(x=mb.reduce_mean(x=x, axes=[1], keep_dims=True), y=mb.sigmoid(x=x), name=TESTED)

    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(
        *both_ways(built(of_a_sum(build), [(1, 5), (1, 5)], half=True), x, torch.zeros_like(x))
    )


@pytest.mark.parametrize(
    ("half", "arithmetic", "runs"), [(True, "program", 0), (True, "float32", 1), (False, "program", 1)]
)
def test_operations_run_where_nothing_is_rounded_to_float16_and_otherwise_once_for_all(
    *, half: bool, arithmetic: Arithmetic, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def sigmoid(_: object) -> Callable[..., Tensor]:
        return lambda x: (calls.append(x.numel()), torch.sigmoid(x))[1]

    operations: Mapping[str, Any] = {**OPERATIONS, "sigmoid": sigmoid}
    monkeypatch.setattr(interpreter_program, "OPERATIONS", operations)
    build = of_a_sum(lambda x: builder().sigmoid(x=x, name=TESTED))
    program = MilProgram(built(build, [(1, 5), (1, 5)], half=half), {TESTED}, arithmetic=arithmetic)
    calls.clear()
    program.run({"x0": torch.zeros(3, 5), "x1": torch.zeros(3, 5)})
    assert calls == [15] * runs
