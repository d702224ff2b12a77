from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.learned.logit_slopes import logit_slopes
from rexnet_export.quantization.onnx.simulate import simulator
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.search.choose_groups import Cut, best_cuts, choose_groups
from rexnet_export.quantization.table.rewrites import ChannelGrouping

LANES = 16
MOST_COST = 0.07

UNEVEN = "penultimate"


def cut(layer: str, noise: float, cost: float = 0.0) -> Cut:
    rewrite = ChannelGrouping(tensor=layer, order=(0, 1), sizes=(1, 1)) if cost else None
    return Cut(layer=layer, rewrite=rewrite, noise=noise, cost=cost)


def kept(*cuts: Cut, others: float = 0.0) -> list[tuple[str, float]]:
    return [(each.layer, each.cost) for each in best_cuts(cuts, others).measured if each.kept and each.rewrite]


def test_what_saves_much_for_little_is_cut() -> None:
    assert kept(cut("a", 1.0), cut("a", 0.01, 0.01), cut("b", 1.0), cut("b", 0.99, 0.01)) == [("a", 0.01)]


def test_even_channels_stay_uncut() -> None:
    assert kept(cut("a", 1.0), cut("a", 0.999, 0.001)) == []
    assert kept() == []


def test_noise_of_other_tensors_makes_a_cut_worth_less() -> None:
    ways = (cut("a", 1.0), cut("a", 0.1, 0.05))
    assert kept(*ways, others=0.1) == [("a", 0.05)]
    assert kept(*ways, others=100.0) == []


def test_a_finer_cut_is_taken_where_it_pays() -> None:
    ways = (cut("a", 1.0), cut("a", 0.3, 0.01), cut("a", 0.001, 0.02))
    assert kept(*ways) == [("a", 0.02)]


@pytest.mark.parametrize(("gained", "taken"), [(0.2985, False), (0.3015, True)])
def test_a_hundredth_of_the_time_must_gain_three_tenths_of_a_decibel(gained: float, *, taken: bool) -> None:
    assert bool(kept(cut("a", 1.0), cut("a", 10 ** (-gained / 10), 0.01))) == taken


@pytest.mark.parametrize(("cost", "taken"), [(0.07, True), (0.0701, False)])
def test_seven_hundredths_of_the_time_are_the_most(cost: float, *, taken: bool) -> None:
    assert bool(kept(cut("a", 1.0), cut("a", 1e-6, cost))) == taken
    assert cut("a", 1.0).kept is False


def test_the_time_of_all_cuts_is_bounded() -> None:
    ways = [way for name in "abcd" for way in (cut(name, 1.0), cut(name, 1e-6, MOST_COST / 3))]
    found = best_cuts(ways, 0.0)
    assert found.cost <= MOST_COST + 1e-12
    assert len(found.rewrites) == 3


@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.001, 1), st.floats(0.001, 0.05)), min_size=1, max_size=8))
def test_cuts_never_add_noise_and_stay_affordable(layers: list[tuple[float, float, float]]) -> None:
    ways = [
        way
        for index, (noise, share, cost) in enumerate(layers)
        for way in (cut(str(index), noise), cut(str(index), noise * share, cost))
    ]
    found = best_cuts(ways, 0.1)
    assert sum(each.noise for each in found.measured if each.kept) <= sum(noise for noise, _, _ in layers) + 1e-9
    assert found.cost <= MOST_COST + 1e-12
    assert len([each for each in found.measured if each.kept]) == len(layers)


@pytest.fixture(scope="module")
def uneven(v1: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The tiny network with about half of the channels of one expansion 32 times larger."""
    model = onnx.ModelProto()
    model.CopyFrom(v1.model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    rows = numpy_helper.to_array(constants[f"{UNEVEN}.weight"]).shape[0]
    small = rows // 2 // LANES * LANES  # as many as a cut can set apart
    assert small
    factors = np.where(np.random.default_rng(0).permutation(rows) < small, 1.0, 32.0).astype(np.float32)
    for name, by in (
        (f"{UNEVEN}.weight", factors[:, None, None, None]),
        (f"{UNEVEN}.bias", factors),
        (v1.model.graph.node[-1].input[1], 1 / factors),
    ):
        scaled = numpy_helper.to_array(constants[name]) * by
        constants[name].CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), name))
    path = tmp_path_factory.mktemp("uneven") / "uneven.onnx"

    def seen(graph: onnx.ModelProto) -> SimpleNamespace:
        onnx.save(graph, path)
        statistics = observe(path, [v1.images], observed_tensors(graph))
        return SimpleNamespace(
            model=graph,
            statistics=statistics,
            slopes=logit_slopes(graph, statistics, v1.images),
            table=decide(graph, statistics, v1.table.calibration),
        )

    return SimpleNamespace(seen=seen, judge=simulator(model, v1.images), **vars(seen(model)))


def test_the_uneven_layer_is_found_and_grouping_it_helps(uneven: SimpleNamespace) -> None:
    found = choose_groups(uneven.model, uneven.statistics, uneven.slopes, uneven.table, uneven.judge)
    assert UNEVEN in {rewrite.tensor for rewrite in found.rewrites}
    grouped = uneven.seen(apply(uneven.model, found.rewrites))
    before, after = (uneven.judge.score(insert_qdq(each.model, each.table, "uint8")) for each in (uneven, grouped))
    assert after.sqnr_db > before.sqnr_db + 3


def test_each_layer_is_measured_uncut_first(uneven: SimpleNamespace) -> None:
    cuts = choose_groups(uneven.model, uneven.statistics, uneven.slopes, uneven.table, uneven.judge).measured
    firsts = [each for index, each in enumerate(cuts) if index == 0 or cuts[index - 1].layer != each.layer]
    assert all(each.rewrite is None and each.cost == 0 for each in firsts)
    of_layer = [each for each in cuts if each.layer == UNEVEN]
    assert min(each.noise for each in of_layer[1:]) < of_layer[0].noise / 2


def test_a_table_of_another_graph_is_refused(uneven: SimpleNamespace) -> None:
    other = replace(uneven.table, model_sha256="0" * 64)
    with pytest.raises(Exception, match="make the table again"):
        choose_groups(uneven.model, uneven.statistics, uneven.slopes, other, uneven.judge)
