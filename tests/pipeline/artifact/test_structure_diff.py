"""What can be counted must not get worse at all; what is better passes; what has no meaning is not compared."""

from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.artifact.structure import Structure
from rexnet_export.pipeline.artifact.structure_diff import Comparison, Signal, Signals, compare
from rexnet_export.pipeline.core.records import Coverage, NotMeasured

PADDING = 64

BASE = Signals(
    format="tflite",
    precision="int8",
    file_bytes=10_000,
    text_bytes=1_000,
    coverage=Coverage(int8_macs=100, total_macs=100, float_ops=()),
    structure=Structure(
        tensor_bytes=8_000,
        operators={"CONV_2D": 5, "MUL": 2},
        float_islands=0,
        qdq_pairs=0,
        arena_bytes=640,
        arena_method="by hand",
    ),
)


def built(**changes: object) -> Signals:
    return replace(BASE, structure=replace(BASE.structure, **cast("dict[str, Any]", changes)))


def counted(**changes: object) -> Signals:
    return replace(BASE, coverage=replace(BASE.coverage, **cast("dict[str, Any]", changes)))


def compared(candidate: Signals, base: Signals = BASE) -> Comparison:
    found = compare(base, candidate)
    assert isinstance(found, Comparison)
    return found


def signal(candidate: Signals, name: str, base: Signals = BASE) -> Signal:
    (found,) = (signal for signal in compared(candidate, base).signals if signal.name == name)
    return found


def test_a_file_beside_itself_passes() -> None:
    assert compared(BASE).verdict == "PASS"
    assert {signal.change for signal in compared(BASE).signals} == {"same"}


WORSE = [
    pytest.param(replace(BASE, file_bytes=10_001), "bytes of the file, its texts aside", id="size"),
    pytest.param(built(tensor_bytes=8_001), "bytes of tensors", id="tensors"),
    pytest.param(built(operators={"CONV_2D": 5, "MUL": 3}), "operators", id="one more operator"),
    pytest.param(built(operators={"CONV_2D": 5, "MUL": 1, "ADD": 1}), "operators", id="another operator"),
    pytest.param(built(qdq_pairs=1), "quantize/dequantize pairs left", id="pairs"),
    pytest.param(built(float_islands=1), "float islands", id="islands"),
    pytest.param(built(arena_bytes=641), "peak arena bytes", id="arena"),
    pytest.param(counted(int8_macs=99), "share of INT8 multiply-accumulates", id="share"),
    pytest.param(counted(int8_macs=101, total_macs=101), "multiply-accumulates", id="work"),
    pytest.param(counted(float_ops=("stem (CONV_2D)",)), "float operators", id="float"),
]


@pytest.mark.parametrize(("candidate", "name"), WORSE)
def test_the_least_bit_worse_fails_and_says_what(candidate: Signals, name: str) -> None:
    found = compared(candidate)
    assert found.verdict == "FAIL"
    assert [signal.name for signal in found.worse] == [name]


@pytest.mark.parametrize(("better", "name"), [case for case in WORSE if case.id != "another operator"])
def test_the_other_way_round_it_is_better_and_passes(better: Signals, name: str) -> None:
    found = compared(BASE, base=better)
    assert found.verdict == "PASS"
    assert [signal.name for signal in found.signals if signal.change == "better"] == [name]


def test_another_mixture_of_as_many_operators_is_worse_in_both_directions() -> None:
    other = built(operators={"CONV_2D": 5, "MUL": 1, "ADD": 1})
    assert compared(other).verdict == compared(BASE, base=other).verdict == "FAIL"


def test_one_thing_better_does_not_make_up_for_one_that_is_worse() -> None:
    assert compared(built(arena_bytes=1, float_islands=1)).verdict == "FAIL"


def test_fewer_operators_of_other_kinds_are_better() -> None:
    fused = signal(built(operators={"FUSED": 5}), "operators")
    assert (fused.change, fused.detail) == ("better", "-5 CONV_2D, +5 FUSED, -2 MUL")


@pytest.mark.parametrize(
    ("text_bytes", "file_bytes", "change"),
    [
        (1_000, 10_001, "worse"),
        (1_007, 10_007, "same"),
        (1_007, 10_007 + PADDING, "same"),
        (1_007, 10_008 + PADDING, "worse"),
        (993, 9_993 - PADDING, "same"),
        (993, 9_992 - PADDING, "better"),
    ],
)
def test_texts_and_the_padding_around_them_are_no_size(text_bytes: int, file_bytes: int, change: str) -> None:
    candidate = replace(BASE, text_bytes=text_bytes, file_bytes=file_bytes)
    assert signal(candidate, "bytes of the file, its texts aside").change == change


def test_a_float_operator_that_takes_the_place_of_another_is_worse() -> None:
    base = counted(float_ops=("head (MEAN)",))
    moved = signal(counted(float_ops=("stem (CONV_2D)",)), "float operators", base)
    assert (moved.change, moved.detail) == ("worse", "new: stem (CONV_2D)")
    assert signal(counted(float_ops=("pool (MEAN)",)), "float operators", base).change == "same"


def test_what_was_not_measured_is_not_compared() -> None:
    found = signal(built(arena_bytes=NotMeasured(reason="nobody says")), "peak arena bytes")
    assert (found.change, found.detail) == ("not compared", "nobody says")
    assert compared(built(arena_bytes=NotMeasured(reason="nobody says"))).verdict == "PASS"


def test_operators_of_another_precision_are_not_compared_but_the_rest_is() -> None:
    fp32 = replace(counted(int8_macs=0), precision="fp32", structure=replace(BASE.structure, operators={"CONV_2D": 99}))
    assert signal(fp32, "operators").change == "not compared"
    assert [signal.name for signal in compared(fp32).worse] == ["share of INT8 multiply-accumulates"]


def test_files_of_different_formats_are_not_compared() -> None:
    found = compare(BASE, replace(BASE, format="ort"))
    assert isinstance(found, NotMeasured)
    assert ".tflite" in found.reason
    assert ".ort" in found.reason


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_share_is_compared_exactly(one: int, other: int, total: int, wider: int) -> None:
    base = counted(int8_macs=min(one, total), total_macs=total)
    candidate = counted(int8_macs=min(other, wider), total_macs=wider)
    less = min(other, wider) * total < min(one, total) * wider
    assert (signal(candidate, "share of INT8 multiply-accumulates", base).change == "worse") is less
