"""Statistics of artifacts side by side: what they must say of equal, shifted and broken values."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy import compare
from rexnet_export.pipeline.accuracy.compare import (
    EQUAL,
    NO_GRID,
    SILENT,
    UNLABELLED,
    Loss,
    Steps,
    TensorComparison,
    compare_logits,
    compare_traces,
    first_difference,
    where_loss_starts,
    worst_first,
)
from rexnet_export.pipeline.core.errors import ConversionError, DataError
from rexnet_export.pipeline.core.json import plain
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.quantization.table.params import QuantParams

GRID = QuantParams(scale=(0.1,), zero_point=(-3,))  # 0.1 is no float32: steps must survive its rounding
ALL = Steps(largest=0.0, within=(1.0, 1.0, 1.0))
SEEDS = st.integers(0, 2**32 - 1)

type Floats = NDArray[np.float32]


def on_grid(seed: int, shape: tuple[int, ...]) -> Floats:
    integers = np.random.default_rng(seed).integers(-128, 128, shape)
    return np.float32(GRID.dequantize(integers))


def compared(reference: Mapping[str, Floats], candidate: Mapping[str, Floats]) -> compare.TraceComparison:
    comparison = TensorComparison(dict.fromkeys(reference, GRID))
    comparison.add(reference, candidate)
    return comparison.result()


@given(SEEDS, st.integers(1, 20), st.integers(2, 9))
@settings(deadline=None, max_examples=30)
def test_equal_logits_agree_entirely(seed: int, n: int, classes: int) -> None:
    logits = on_grid(seed, (n, classes))
    (pair,) = compare_logits({"a": logits, "b": logits.copy()}, None, GRID.scale[0]).pairs
    assert (pair.agreement, pair.largest, pair.steps) == (1.0, 0.0, ALL)


@given(SEEDS, SEEDS)
@settings(deadline=None, max_examples=30)
def test_pairs_do_not_depend_on_who_comes_first(seed: int, other: int) -> None:
    one, two = on_grid(seed, (12, 5)), on_grid(other, (12, 5))
    labels = np.random.default_rng(seed).integers(0, 5, 12)
    forth = compare_logits({"a": one, "b": two}, labels, GRID.scale[0])
    back = compare_logits({"b": two, "a": one}, labels, GRID.scale[0])
    assert (forth.pairs[0].agreement, forth.pairs[0].steps) == (back.pairs[0].agreement, back.pairs[0].steps)
    assert forth.top1 == back.top1


def test_logits_are_counted_in_whole_steps() -> None:
    one = on_grid(0, (2, 4)) * 0
    apart = np.float32(GRID.scale[0] * np.array([[0, 1, 2, 3], [-4, -3, 0, 0]]))
    (pair,) = compare_logits({"a": one, "b": one + apart}, None, GRID.scale[0]).pairs
    assert pair.steps == Steps(largest=4.0, within=(4 / 8, 5 / 8, 7 / 8))
    assert pair.agreement == 0.0


def test_every_pair_and_everyones_accuracy() -> None:
    right, wrong = np.float32([[1, 0], [0, 1]]), np.float32([[0, 1], [0, 1]])
    found = compare_logits({"a": right, "b": wrong, "c": right}, np.array([0, 1]), NO_GRID)
    assert found.top1 == {"a": 1.0, "b": 0.5, "c": 1.0}
    assert {pair.names: pair.agreement for pair in found.pairs} == {("a", "b"): 0.5, ("a", "c"): 1.0, ("b", "c"): 0.5}
    assert {pair.steps for pair in found.pairs} == {NO_GRID}
    assert compare_logits({"a": right}, None, NO_GRID).top1 == {"a": UNLABELLED}


def test_logits_of_different_images_are_refused() -> None:
    with pytest.raises(DataError, match="same images"):
        compare_logits({"a": np.zeros((2, 3), np.float32), "b": np.zeros((3, 3), np.float32)}, None, NO_GRID)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_equal_traces_have_no_noise_and_no_infinity(seed: int) -> None:
    trace = {"a": on_grid(seed, (2, 3, 4, 4)), "zero": np.zeros((2, 3), np.float32)}
    found = compared(trace, {name: values.copy() for name, values in trace.items()})
    assert [(t.equal, t.steps, t.sqnr_db, t.largest) for t in found.tensors] == [(1.0, ALL, EQUAL, 0.0)] * 2
    assert first_difference(found.tensors) is None
    json.dumps(plain(found), allow_nan=False)


@given(SEEDS, SEEDS)
@settings(deadline=None, max_examples=30)
def test_traces_are_counted_alike_in_both_directions(seed: int, other: int) -> None:
    one, two = ({"a": on_grid(s, (2, 3))} for s in (seed, other))
    (forth,), (back,) = compared(one, two).tensors, compared(two, one).tensors
    assert (forth.equal, forth.steps, forth.largest) == (back.equal, back.steps, back.largest)
    json.dumps(plain([forth, back]), allow_nan=False)


def test_images_one_by_one_count_as_all_at_once() -> None:
    one, two = {"a": on_grid(1, (6, 3, 2, 2))}, {"a": on_grid(2, (6, 3, 2, 2))}
    whole, parts = TensorComparison({"a": GRID}), TensorComparison({"a": GRID})
    whole.add(one, two)
    for i in range(6):
        parts.add({"a": one["a"][i : i + 1]}, {"a": two["a"][i : i + 1]})
    (expected,), (found,) = whole.result().tensors, parts.result().tensors
    assert parts.result().images == whole.result().images == 6
    assert (found.values, found.equal, found.steps) == (expected.values, expected.equal, expected.steps)
    assert found.sqnr_db == pytest.approx(expected.sqnr_db)
    noise = np.square(one["a"].astype(np.float64) - two["a"]).sum()
    signal = np.square(one["a"].astype(np.float64)).sum()
    assert found.sqnr_db == pytest.approx(10 * math.log10(signal / noise))


def test_a_float_reference_is_rounded_to_the_grid_to_be_equal() -> None:
    reference = np.float32([[0.04, 0.06, 99.0]])  # rounds to 0, rounds to 0.1, saturates
    candidate = np.float32([[0.0, 0.0, GRID.dequantize(np.array(127)).item()]])
    (found,) = compared({"a": reference}, {"a": candidate}).tensors
    assert found.equal == pytest.approx(2 / 3)


def test_a_silent_reference_has_no_sqnr() -> None:
    (found,) = compared({"a": np.zeros((1, 2), np.float32)}, {"a": np.ones((1, 2), np.float32)}).tensors
    assert found.sqnr_db == SILENT


def test_tensors_of_one_artifact_alone_are_named() -> None:
    values = on_grid(0, (1, 2))
    assert compared({"a": values, "fused": values}, {"a": values, "extra": values}).unmatched == ("fused", "extra")
    with pytest.raises(ConversionError, match="no tensor in common"):
        compared({"a": values}, {"b": values})


def test_other_shapes_and_values_that_are_not_finite_are_refused() -> None:
    values = on_grid(0, (1, 2))
    with pytest.raises(ConversionError, match=r"a is \[1, 2\].*\[2, 1\]"):
        compared({"a": values}, {"a": values.T})
    with pytest.raises(ConversionError, match="a has values that are not finite"):
        compared({"a": values}, {"a": values * np.float32(np.nan)})


def chain(*noises: float) -> compare.TraceComparison:
    """Tensors t0, t1, ... of signal 1 with the given constant errors."""
    names = [f"t{i}" for i in range(len(noises))]
    one = np.ones((1, 4), np.float32)
    return compared(
        dict.fromkeys(names, one), {name: one + np.float32(n) for name, n in zip(names, noises, strict=True)}
    )


def test_the_first_difference_is_the_first_in_order_beyond_the_given_steps() -> None:
    tensors = chain(0.0, 0.1, 0.3, 0.0, 0.8).tensors
    found = {beyond: first_difference(tensors, beyond) for beyond in (0, 1, 3, 8)}
    assert {beyond: t and t.name for beyond, t in found.items()} == {0: "t1", 1: "t2", 3: "t4", 8: None}
    assert [t.name for t in worst_first(tensors)] == ["t4", "t2", "t1", "t0", "t3"]


def test_without_a_grid_any_difference_is_the_first() -> None:
    comparison = TensorComparison({})
    comparison.add({"a": np.float32([[1]]), "b": np.float32([[1]])}, {"a": np.float32([[1]]), "b": np.float32([[2]])})
    first = first_difference(comparison.result().tensors)
    assert first is not None
    assert (first.name, first.equal, first.steps) == ("b", NO_GRID, NO_GRID)
    assert first_difference(comparison.result().tensors, 1) is None


def test_loss_starts_where_sqnr_falls_most_below_the_worst_input() -> None:
    tensors = chain(0.0, 0.01, 0.001, 0.002, 0.05).tensors
    # t4 is made of t2 through `fused`, and loses most of it; t3 follows the same t2 and loses little.
    inputs = {"t1": ("t0",), "t2": ("t1",), "t3": ("t2",), "fused": ("t2", "t0"), "t4": ("fused",)}
    found = where_loss_starts(tensors, inputs)
    assert isinstance(found, Loss)
    assert (found.name, found.source) == ("t4", "t2")
    assert found.source_db - found.sqnr_db == pytest.approx(20 * math.log10(50), abs=1e-3)
    assert isinstance(where_loss_starts(chain(0.0, 0.1).tensors, {"t1": ("t0",)}), NotMeasured)


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """A session whose tensors are its pixels and their doubles, `shift` away."""

    shift: float
    executed_by: str = "numpy"
    timed: bool = False

    def run(self, images: NDArray[np.uint8]) -> Floats:
        return self.trace(images)["logits"]

    def trace(self, images: NDArray[np.uint8]) -> dict[str, Floats]:
        assert len(images) == 1
        real = images.reshape(1, -1).astype(np.float32)
        return {"pixels": real, "logits": real * 2 + np.float32(self.shift)}


def test_sessions_are_compared_image_by_image() -> None:
    sessions = {"a": Shifted(shift=0), "b": Shifted(shift=0.1), "c": Shifted(shift=0.3)}
    batches = [np.full((2, 2, 2, 3), 1, np.uint8), np.full((1, 2, 2, 3), 2, np.uint8)]
    found = compare_traces(sessions, [("a", "b"), ("a", "c")], batches, {"logits": GRID})
    assert {pair: result.images for pair, result in found.items()} == {("a", "b"): 3, ("a", "c"): 3}
    steps = [result.tensors[1].steps for result in found.values()]
    assert [s.largest for s in steps if isinstance(s, Steps)] == [1.0, 3.0]
