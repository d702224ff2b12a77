from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from rexnet_export.quantization.calibration.ranges import ranged
from rexnet_export.quantization.calibration.statistic_names import LEAST_NOISE
from rexnet_export.quantization.onnx.simulate import Score, Simulator, simulator
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import decide
from rexnet_export.quantization.search.choose_ranges import STATISTICS, Chosen, better, choose_ranges

SPOILED = "features.15.residual"


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
        slopes=lite.slopes,
        calibration=lite.table.calibration,
    )


def choice(case: SimpleNamespace) -> Chosen:
    return choose_ranges(case.model, case.statistics, case.slopes, case.judge, case.calibration)


@pytest.fixture(scope="module")
def chosen(case: SimpleNamespace) -> Chosen:
    return choice(case)


def test_the_choice_is_what_its_score_says_and_better_than_the_whole_range(
    case: SimpleNamespace, chosen: Chosen
) -> None:
    scores = {trial.name: trial.score for trial in chosen.trials}
    assert list(scores) == [*STATISTICS, LEAST_NOISE]
    table = decide(case.model, case.statistics, case.calibration, chosen.ranges)
    assert case.judge.score(insert_qdq(case.model, table, "uint8")) == scores[chosen.best] == chosen.score
    assert chosen.score.sqnr_db > scores["min-max"].sqnr_db + 1.0


def test_an_outlier_is_seen_where_it_is(case: SimpleNamespace, chosen: Chosen) -> None:
    assert chosen.best != "min-max"
    assert chosen.ranges[SPOILED].high < case.statistics[SPOILED].maximum / 8
    assert chosen.ranges.keys() == case.statistics.keys()


def test_every_range_lies_within_what_was_observed(case: SimpleNamespace, chosen: Chosen) -> None:
    for name, found in chosen.ranges.items():
        seen = case.statistics[name]
        assert min(seen.minimum, 0.0) <= found.low <= found.high <= max(seen.maximum, 0.0)


@pytest.mark.parametrize(("margin", "best"), [(1.9, LEAST_NOISE), (2.1, "percentile-99.99")])
def test_few_judges_have_to_be_sure(
    case: SimpleNamespace, chosen: Chosen, monkeypatch: pytest.MonkeyPatch, margin: float, best: str
) -> None:
    percentiles = {name: ranged(found, "percentile-99.99") for name, found in case.statistics.items()}
    table = decide(case.model, case.statistics, case.calibration, percentiles)
    wanted = insert_qdq(case.model, table, "uint8").SerializeToString()
    monkeypatch.setattr(Simulator, "score", scored(wanted, chosen.score.sqnr_db, margin))
    assert choice(case).best == best


def scored(wanted: bytes, sqnr_db: float, margin: float) -> Callable[[Simulator, onnx.ModelProto], Score]:
    """A judge that finds one model so much better than all others."""

    def score(_: Simulator, model: onnx.ModelProto) -> Score:
        ahead = margin if model.SerializeToString() == wanted else 0.0
        return Score(sqnr_db=sqnr_db + ahead, agreement=1.0)

    return score


def test_the_same_input_gives_the_same_choice(case: SimpleNamespace, chosen: Chosen) -> None:
    assert choice(case) == chosen


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


def test_two_standard_deviations_are_still_chance() -> None:
    """12 and 16 of 16: four more, where four are wrong."""
    assert better(Score(sqnr_db=20.0, agreement=0.75), Score(sqnr_db=19.0, agreement=1.0), 16)
