from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from spoiled_tables import spoiled

from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.learned.logit_slopes import logit_slopes
from rexnet_export.quantization.onnx.simulate import simulator
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import observed_tensors
from rexnet_export.quantization.search import search as subject
from rexnet_export.quantization.search.choose_groups import Cut, Grouped
from rexnet_export.quantization.search.choose_ranges import better
from rexnet_export.quantization.search.search import (
    Draft,
    Evidence,
    corrected,
    equalized,
    grouped,
    judged,
    predicted,
    ranges_chosen,
    search,
)
from rexnet_export.quantization.table.rewrites import ChannelGrouping
from rexnet_export.quantization.table.table_file import table_text

STEPS = (equalized, grouped, ranges_chosen, corrected)


@pytest.fixture(scope="module")
def evidence(v1: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    path = tmp_path_factory.mktemp("search") / "seen.onnx"

    def seen(model: onnx.ModelProto) -> object:
        onnx.save(model, path)
        return observe(path, [v1.images], observed_tensors(model))

    held_back = np.random.default_rng(1).integers(0, 256, (16, *v1.images.shape[1:]), dtype=np.uint8)
    return Evidence(
        observe=seen,  # type: ignore[arg-type]
        slopes=lambda model, statistics: logit_slopes(model, statistics, v1.images),
        sample=v1.images,
        judge=simulator(v1.model, held_back),
        calibration=replace(v1.table.calibration, statistic="auto"),
        plain="min-max",
    )


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def draft(v1: SimpleNamespace, evidence: Evidence, told: list[str]) -> Draft:
    return search(v1.model, evidence, STEPS, told.append)


def test_every_step_is_told_and_what_it_tried_is_kept(draft: Draft, told: list[str]) -> None:
    assert told == ["plain", "equalized", "grouped", "ranges_chosen", "corrected"]
    names = [trial.name for trial in draft.trials]
    assert names[0] == "plain"
    assert "ranges chosen" in names
    assert names[-1].startswith("biases: ")


def test_the_result_is_what_its_score_says_and_no_worse_than_plain(draft: Draft, evidence: Evidence) -> None:
    assert evidence.judge.score(insert_qdq(draft.model, draft.table, "uint8")) == draft.score
    kept = [trial for trial in draft.trials if trial.kept]
    assert kept[-1].score == draft.score
    assert draft.score.sqnr_db >= kept[0].score.sqnr_db
    assert not better(kept[0].score, draft.score, len(evidence.judge.images))


def test_a_worse_table_is_tried_and_left(draft: Draft, evidence: Evidence) -> None:
    worse = spoiled(draft.table, next(name for name in draft.table.tensors if name.startswith("penultimate.silu")))
    after = judged(draft, worse, evidence.judge, "spoiled")
    assert after.table == draft.table
    assert (after.trials[-1].name, after.trials[-1].kept) == ("spoiled", False)
    restored = judged(replace(draft, table=worse, score=after.trials[-1].score), draft.table, evidence.judge, "mended")
    assert (restored.table, restored.trials[-1].kept) == (draft.table, True)


@pytest.mark.parametrize("wanted", [True, False])
def test_cuts_are_said_to_be_kept_only_where_the_judge_keeps_them(
    v1: SimpleNamespace,
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
    *,
    wanted: bool,
) -> None:
    plain = search(v1.model, evidence, (), lambda _: None)
    channels = v1.statistics["penultimate"].channel_minima.size
    halves = ChannelGrouping(tensor="penultimate", order=tuple(range(channels)), sizes=(8, channels - 8))
    uncut = Cut(layer="penultimate", rewrite=None, noise=1.0, cost=0.0)
    cut = Cut(layer="penultimate", rewrite=halves, noise=0.1, cost=0.01, kept=True)
    found = Grouped(rewrites=(halves,), cost=0.01, measured=(uncut, cut))
    monkeypatch.setattr(subject, "choose_groups", lambda *_: found)
    monkeypatch.setattr(subject, "better", lambda *_: wanted)
    after = grouped(plain, evidence)
    assert after.table.rewrites == ((halves,) if wanted else ())
    assert [each.kept for each in after.cuts] == [not wanted, wanted]


def test_slopes_are_measured_once_for_a_graph_that_stays(
    v1: SimpleNamespace, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[onnx.ModelProto] = []

    def slopes(model: onnx.ModelProto, statistics: object) -> object:
        measured.append(model)
        return evidence.slopes(model, statistics)  # type: ignore[arg-type]

    counting = replace(evidence, slopes=slopes)  # type: ignore[arg-type]
    monkeypatch.setattr(subject, "choose_groups", lambda *_: Grouped(rewrites=(), cost=0.0, measured=()))
    plain = search(v1.model, counting, (), lambda _: None)
    once, again = ranges_chosen(grouped(plain, counting), counting), ranges_chosen(plain, counting)
    assert len(measured) == 2
    assert table_text(once.table) == table_text(again.table)


def test_the_same_evidence_gives_the_same_bytes(v1: SimpleNamespace, evidence: Evidence) -> None:
    first, second = (search(v1.model, evidence, (equalized, grouped), lambda _: None) for _ in range(2))
    assert table_text(first.table) == table_text(second.table)
    assert first.trials == second.trials


def test_without_a_judge_the_prediction_decides(v1: SimpleNamespace, evidence: Evidence, tmp_path: Path) -> None:
    calibration = replace(v1.table.calibration, statistic="min-max")
    model, _, table = predicted(v1.model, evidence.observe, calibration)
    assert {entry.statistic for entry in table.tensors.values() if entry.decision == "observed"} == {"min-max"}
    insert_qdq(model, table, "int8")
