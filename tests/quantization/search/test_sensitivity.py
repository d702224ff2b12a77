from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper
from spoiled_tables import spoiled

from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.quantization.onnx.simulate import Score, Simulator, simulator
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.search import sensitivity as subject
from rexnet_export.quantization.search.sensitivity import Sensitivity, sensitivities
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import Calibration, QuantTable, TensorEntry

SPOILED = "penultimate.silu"


@pytest.fixture(scope="module")
def case(v1: SimpleNamespace) -> SimpleNamespace:
    """The tiny network's table with one tensor's range a hundred times too wide."""
    return SimpleNamespace(model=v1.model, table=spoiled(v1.table, SPOILED), judge=simulator(v1.model, v1.images))


@pytest.fixture(scope="module")
def found(case: SimpleNamespace) -> tuple[Sensitivity, ...]:
    counted: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "LOUDEST", 4)
        result = sensitivities(case.model, case.table, case.judge, counted.append)
    assert sum(counted) == len(result)
    return result


def test_the_spoiled_tensor_comes_first(found: tuple[Sensitivity, ...]) -> None:
    first, second = found[:2]
    assert first.tensor == SPOILED
    assert first.only.sqnr_db < second.only.sqnr_db - 6
    assert isinstance(first.all_but, Score)
    assert isinstance(second.all_but, Score)
    assert first.all_but.sqnr_db > second.all_but.sqnr_db + 6


def test_every_tensor_with_parameters_of_its_own_is_ranked_once(
    case: SimpleNamespace, found: tuple[Sensitivity, ...]
) -> None:
    own = {name for name, entry in case.table.tensors.items() if entry.decision in {"observed", "fixed", "weights"}}
    images = {node.output[0] for node in case.model.graph.node if node.op_type == "DequantizeLinear"}
    assert {each.tensor for each in found} == own - images
    assert len(found) == len(own - images)
    noise = [each.only.sqnr_db for each in found]
    assert noise == sorted(noise)


def test_only_the_loudest_are_left_out_of_the_whole(found: tuple[Sensitivity, ...]) -> None:
    assert [isinstance(each.all_but, NotMeasured) for each in found] == [False] * 4 + [True] * (len(found) - 4)


def test_alone_is_what_the_whole_graph_gives_with_the_others_in_float(
    case: SimpleNamespace, found: tuple[Sensitivity, ...]
) -> None:
    for each in (found[0], next(each for each in found if each.tensor.endswith(".weight"))):
        tensors = {
            name: entry if each.tensor in {name, entry.source} and entry.decision != "derived" else subject.FLOAT
            for name, entry in case.table.tensors.items()
        }
        alone = case.judge.score(insert_qdq(case.model, replace(case.table, tensors=tensors), "uint8"))
        assert alone.sqnr_db == pytest.approx(each.only.sqnr_db, abs=0.5)
        assert np.isfinite(each.only.sqnr_db)


def test_the_first_images_rank_and_two_dozen_are_left_out(
    case: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def within(self: Simulator, *given: int) -> Simulator:
        asked.append(given)  # type: ignore[arg-type]
        raise InterruptedError

    monkeypatch.setattr(Simulator, "within", within)
    with pytest.raises(InterruptedError):
        sensitivities(case.model, case.table, case.judge, lambda _: None)
    assert asked == [(2**17, 8)]
    assert subject.QUIET.reason == "quieter alone than 24 others"


def test_parts_that_are_joined_leave_int8_together() -> None:
    join = helper.make_node("Concat", ["g0", "g1"], ["whole"], axis=1)
    model = helper.make_model(helper.make_graph([join], "join", [], []))
    fixed = TensorEntry(decision="fixed", params=QuantParams(scale=(0.5,), zero_point=(0,)))
    table = QuantTable(
        model_sha256="0" * 64,
        calibration=Calibration(images_sha256="0" * 64, images=1, statistic="min-max", seed=0),
        tensors={"g0": fixed, "g1": fixed, "whole": TensorEntry(decision="shared", source="g0"), "other": fixed},
    )
    followers = subject._followers(model, table)
    assert followers["g0"] == followers["g1"] == {"g0", "g1", "whole"}
    assert followers["other"] == {"other"}
