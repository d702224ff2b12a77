from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from rexnet_export.quantization import choose as subject
from rexnet_export.quantization.choose import STATISTICS, Chosen, better, choose_ranges
from rexnet_export.quantization.qdq import insert_qdq
from rexnet_export.quantization.qparams import from_range
from rexnet_export.quantization.ranges import ObservedRange, ranged
from rexnet_export.quantization.scheme import decide
from rexnet_export.quantization.simulate import Score, Simulator, simulator, sqnr_db

SPOILED = "features.6.residual"
TRIALS = 4


@pytest.fixture(scope="module")
def case(lite: SimpleNamespace) -> SimpleNamespace:
    """Held-back images, and statistics in which one tensor has had a lone, far outlier."""
    images = np.random.default_rng(1).integers(0, 256, (24, *lite.images.shape[1:]), dtype=np.uint8)
    images[:12] //= 4
    spoiled = lite.statistics[SPOILED]
    far = replace(spoiled, maximum=400 * spoiled.maximum)
    return SimpleNamespace(
        model=lite.model,
        judge=simulator(lite.model, images),
        statistics=lite.statistics | {SPOILED: far},
        calibration=lite.table.calibration,
    )


@pytest.fixture(scope="module")
def chosen(case: SimpleNamespace) -> Chosen:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "TRIALS", TRIALS)
        return choose_ranges(case.model, case.statistics, case.judge, case.calibration)


def test_the_choice_is_at_least_as_good_as_any_statistic_for_all(case: SimpleNamespace, chosen: Chosen) -> None:
    scores = {trial.name: trial.score for trial in chosen.trials}
    assert list(scores) == [*STATISTICS, "mixed", "refined"]
    table = decide(case.model, case.statistics, case.calibration, chosen.ranges)
    assert case.judge.score(insert_qdq(case.model, table, "uint8")) == scores[chosen.best]
    assert not [name for name, score in scores.items() if better(score, scores[chosen.best], len(case.judge.images))]
    assert scores[chosen.best].sqnr_db > scores["min-max"].sqnr_db + 1.0


def test_an_outlier_is_seen_where_it_is(case: SimpleNamespace, chosen: Chosen) -> None:
    loudest = min(chosen.choices, key=lambda choice: choice.alone_db["min-max"])
    assert loudest.tensor == SPOILED
    assert chosen.ranges[SPOILED].statistic != "min-max"
    assert chosen.ranges[SPOILED].high < case.statistics[SPOILED].maximum / 8
    assert chosen.ranges.keys() == case.statistics.keys()


def test_every_range_lies_within_what_was_observed(case: SimpleNamespace, chosen: Chosen) -> None:
    for name, found in chosen.ranges.items():
        seen = case.statistics[name]
        assert min(seen.minimum, 0.0) <= found.low <= found.high <= max(seen.maximum, 0.0)


@pytest.mark.parametrize("name", [SPOILED, "features.12.project", "logits"])
def test_alone_means_that_tensor_in_int8_and_all_others_in_float(
    case: SimpleNamespace, chosen: Chosen, name: str
) -> None:
    found = ranged(case.statistics[name], "percentile-99.9")
    logits = case.judge.logits(alone_in_int8(case.model, name, found))
    expected = sqnr_db(case.judge.reference, logits)
    choice = next(choice for choice in chosen.choices if choice.tensor == name)
    assert choice.alone_db["percentile-99.9"] == pytest.approx(expected, abs=0.3)


def alone_in_int8(model: onnx.ModelProto, name: str, found: ObservedRange) -> onnx.ModelProto:
    params = from_range(found.low, found.high)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    changed.graph.initializer.append(numpy_helper.from_array(np.float32(params.scale[0]), "s"))
    changed.graph.initializer.append(numpy_helper.from_array(np.int8(params.zero_point[0]), "z"))
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.output[0] = "real" if name in node.output else node.output[0]
        changed.graph.node.append(copy)
        if name in node.output:
            changed.graph.node.append(helper.make_node("QuantizeLinear", ["real", "s", "z"], ["integers"]))
            changed.graph.node.append(helper.make_node("DequantizeLinear", ["integers", "s", "z"], [name]))
    return changed


def test_a_loud_tensor_gets_a_range_searched_by_the_logits(chosen: Chosen) -> None:
    searched = [choice.alone_db for choice in chosen.choices if subject.SEARCHED in choice.alone_db]
    assert searched
    assert all(alone[subject.SEARCHED] >= max(alone.values()) for alone in searched)
    quiet = [choice.alone_db for choice in chosen.choices if subject.SEARCHED not in choice.alone_db]
    assert all(max(alone.values()) >= subject.LOUD_DB for alone in quiet)


def test_simulations_are_bounded_and_the_same_input_gives_the_same_choice(
    case: SimpleNamespace, chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "TRIALS", TRIALS)
    calls: list[int] = []
    original = Simulator.score

    def counting(judge: Simulator, model: onnx.ModelProto) -> Score:
        calls.append(len(judge.images))
        return original(judge, model)

    monkeypatch.setattr(Simulator, "score", counting)
    assert choose_ranges(case.model, case.statistics, case.judge, case.calibration) == chosen
    assert len(calls) <= len(STATISTICS) + 2 + 1 + TRIALS


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((20.0, 0.99), (19.0, 0.99), True),
        ((19.0, 0.99), (20.0, 0.99), False),
        ((20.0, 0.97), (19.0, 0.99), True),  # 97 and 99 of 100: chance
        ((25.0, 0.60), (10.0, 0.90), False),
        ((10.0, 0.90), (25.0, 0.60), True),
        ((20.0, 0.99), (20.0, 0.99), False),
    ],
)
def test_agreement_decides_beyond_chance_and_sqnr_otherwise(
    one: tuple[float, float], other: tuple[float, float], *, expected: bool
) -> None:
    first, second = (Score(sqnr_db=sqnr, agreement=agreement) for sqnr, agreement in (one, other))
    assert better(first, second, 100) is expected
