from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx.simulate import Logits, Simulator, simulator
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.search import mixed_precision
from rexnet_export.quantization.search.float_islands import check_islands
from rexnet_export.quantization.search.mixed_precision import Changes, Mixed, changes, leave_in_float, units
from rexnet_export.quantization.table.table_file import table_text

IMAGES, CLASSES = 40, 5
BOUND = 0.05
DAMAGE = {("features.2.expand",): 1.5, ("features.9.expand", "features.9.depthwise"): 1.5, ("stem",): 0.02}
HARMLESS = "features.5.project"  # the noisiest of all, but the same in every class: nothing changes by it
NEEDED = ("features.2.expand", "features.9.expand", "features.9.depthwise")


@dataclass(frozen=True, kw_only=True)
class Judge(Simulator):
    """Answers from noise that layers bring while any of them is in INT8; `damage` is that noise by layers."""

    damage: Mapping[tuple[str, ...], NDArray[np.float32]]

    def first(self, images: int) -> Judge:
        few = {layers: noise[:images] for layers, noise in self.damage.items()}
        return replace(self, images=self.images[:images], reference=self.reference[:images], damage=few)

    def logits(self, model: onnx.ModelProto) -> Logits:
        weights = {tensor.name for tensor in model.graph.initializer}
        layers = [node for node in model.graph.node if node.op_type in {"Conv", "Gemm"}]
        in_float = {node.output[0].removesuffix(".float") for node in layers if node.input[1] in weights}
        noise = [noise for layers, noise in self.damage.items() if not in_float.issuperset(layers)]
        return self.reference + sum(noise, np.zeros_like(self.reference))


@pytest.fixture(scope="module")
def judge() -> Judge:
    random = np.random.default_rng(0)
    shape = IMAGES, CLASSES
    return Judge(
        images=np.zeros((IMAGES, 32, 32, 3), np.uint8),
        reference=random.normal(size=shape).astype(np.float32),
        damage={layers: random.normal(size=shape, scale=size).astype(np.float32) for layers, size in DAMAGE.items()}
        | {(HARMLESS,): np.full(shape, 100.0, np.float32)},
    )


@pytest.fixture(scope="module")
def found(v1: SimpleNamespace, judge: Judge) -> Mixed:
    return leave_in_float(v1.model, v1.table, judge, BOUND)


def test_units_hold_every_computed_node_once(either: SimpleNamespace) -> None:
    pieces = units(either.model)
    counted = Counter(node for piece in pieces for node in piece.nodes)
    computed = [node.output[0] for node in either.model.graph.node if node.output[0] in either.table.tensors]
    assert counted == Counter(name for name in computed if name != "input")
    assert all(piece.nodes[0] == piece.name and piece.macs > 0 for piece in pieces)


def test_squeeze_and_excitation_belong_to_what_they_gate(v1: SimpleNamespace) -> None:
    nodes = {piece.name: piece.nodes for piece in units(v1.model)}
    assert nodes["features.3.depthwise"] == tuple(
        f"features.3.{part}"
        for part in ("depthwise", "pool", "squeeze", "squeeze.relu", "excite", "gate", "gated", "relu6")
    )
    assert nodes["features.3.expand"] == ("features.3.expand", "features.3.expand.sigmoid", "features.3.expand.silu")
    assert nodes["logits"] == ("logits",)


def test_only_what_does_damage_goes_into_float(found: Mixed, v1: SimpleNamespace, judge: Judge) -> None:
    assert tuple(unit.name for unit in found.units) == NEEDED
    assert not found.int8.within(BOUND)
    assert found.mixed.within(BOUND)
    check_islands(view(v1.model), found.table)
    logits = judge.logits(insert_qdq(v1.model, found.table, "uint8"))
    assert changes(judge.reference, logits) == found.mixed
    assert "features.9.expand.silu" in found.table.float_tensors  # between the two that are needed together
    macs = {piece.name: piece.macs for piece in units(v1.model)}
    assert found.float_mac_fraction == pytest.approx(sum(macs[name] for name in NEEDED) / sum(macs.values()))


def test_every_float_tensor_says_why_with_figures(found: Mixed) -> None:
    for unit in found.units:
        assert f"with {unit.name} in INT8 too, " in unit.reason
        assert "of 40 held-back images have another top-1 class than in float (" in unit.reason
        assert "where 5.00% may" in unit.reason
        assert f"{unit.mac_fraction:.1%} of the multiply-accumulates" in unit.reason
    reasons = {found.table.tensors[name].reason for name in found.table.float_tensors}
    assert reasons == {unit.reason for unit in found.units}


def test_the_search_is_bounded_and_repeats_itself(found: Mixed, v1: SimpleNamespace, judge: Judge) -> None:
    count = len(units(v1.model))
    assert found.simulations <= 2 * count + np.log2(count) + 3
    tried: list[None] = []
    again = leave_in_float(v1.model, v1.table, judge, BOUND, lambda: tried.append(None))
    assert table_text(again.table) == table_text(found.table)
    assert len(tried) == again.simulations == found.simulations


def test_one_unit_in_float_is_enough_where_it_is(v1: SimpleNamespace, judge: Judge) -> None:
    layers = ("features.2.expand",)
    one = replace(judge, damage={layers: judge.damage[layers]})
    (unit,) = leave_in_float(v1.model, v1.table, one, BOUND).units
    assert unit.name == "features.2.expand"


def test_a_network_that_holds_stays_in_int8(v1: SimpleNamespace) -> None:
    found = leave_in_float(v1.model, v1.table, simulator(v1.model, v1.images), BOUND)
    assert found.table == v1.table
    assert (found.units, found.simulations, found.float_mac_fraction) == ((), 1, 0.0)
    assert found.int8 == found.mixed


def test_what_even_float_does_not_reach_is_said(v1: SimpleNamespace, judge: Judge) -> None:
    never = replace(judge, damage={("no such layer",): -2.0 * judge.reference})
    with pytest.raises(ConversionError, match=r"5\.00% is out of reach even with every layer in float, where 40 of 40"):
        leave_in_float(v1.model, v1.table, never, BOUND)


def test_a_network_that_would_be_float_throughout_is_refused(v1: SimpleNamespace, judge: Judge) -> None:
    damage = {(piece.name,): -2.0 * judge.reference for piece in units(v1.model)}
    with pytest.raises(ConversionError, match=r"out of reach in INT8, where 40 of 40 .* no layer can leave float"):
        leave_in_float(v1.model, v1.table, replace(judge, damage=damage), BOUND)


def test_expected_changes_are_those_of_margins_and_noise() -> None:
    reference = np.array([[3.0, 0.0, -3.0], [0.5, 0.0, -0.5]], np.float32)
    same = changes(reference, reference)
    assert same == Changes(images=2, changed=0, expected=0.0)
    assert same.within(0.0)
    # A small change of the second image's runner-up: neither image changes its class, and neither would the other's.
    near = reference + np.array([[0, 0, 0], [0, 0.25, 0]], np.float32)
    assert changes(reference, near) == Changes(images=2, changed=0, expected=0.0)
    # Relative to the logits' spread, the second image's noise would have changed the first as well: 2 of 4.
    flipped = reference + np.array([[0, 0, 0], [0, 0.75, 0]], np.float32)
    seen = changes(reference, flipped)
    assert (seen.changed, seen.expected) == (1, 0.5)
    assert not seen.within(0.4)
    assert seen.within(0.5)


@pytest.mark.parametrize(("side", "images"), [(32, 256), (64, 64), (224, 12)])
def test_units_are_ranked_on_a_quarter_of_a_million_pixels_but_at_least_twelve_images(
    v1: SimpleNamespace, judge: Judge, side: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    own = Judge.first
    monkeypatch.setattr(Judge, "first", lambda self, count: asked.append(count) or own(self, count))
    large = replace(judge, images=np.broadcast_to(np.uint8(0), (IMAGES, side, side, 3)))
    search = mixed_precision._Search(v1.model, v1.table, large, BOUND, lambda: None)
    search.ranked(units(v1.model)[:2])
    assert asked == [images]


@pytest.mark.parametrize(("beyond", "within"), [(0.5e-9, True), (1.5e-9, False)])
def test_what_rounding_adds_does_not_count(beyond: float, *, within: bool) -> None:
    assert Changes(images=1, changed=0, expected=0.25 + beyond).within(0.25) == within


def test_a_bound_holds_for_what_was_seen_and_for_what_is_expected() -> None:
    assert Changes(images=200, changed=1, expected=0.005).within(0.005)
    assert not Changes(images=200, changed=2, expected=0.0).within(0.005)
    assert not Changes(images=200, changed=0, expected=0.006).within(0.005)
