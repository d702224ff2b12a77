"""Findings of a search whose answer is known."""

from collections.abc import Callable

import pytest

from rexnet_export.apps.study.search.findings import findings
from rexnet_export.apps.study.search.journal import TrialResult


def result(index: int, channels: tuple[int, ...], top1: float, macs: int = 1) -> TrialResult:
    return TrialResult(index=index, channels=channels, parameters=1, macs=macs, top1=(top1, top1 + 0.02))


def bent(amount: int) -> tuple[int, ...]:
    return (10, 20, 30, 40, 50 + 10 * amount)


@pytest.mark.parametrize(
    ("better", "said"),
    [("straight", "parameterization recovered"), ("bent", "contradicted"), ("none", "not recovered")],
)
def test_verdict_follows_the_data(better: str, said: str) -> None:
    sign = {"straight": -1, "bent": 1, "none": 0}[better]
    jumps = [0.02, 0.0, 0.01, 0.03]
    results = [result(n, bent(n), 0.5 + sign * 0.01 * n + (0 if sign else jumps[n % 4])) for n in range(20)]
    found = findings(results)
    assert said in found.verdict
    assert [group.size for group in found.groups] == [2, 2, 2]
    assert found.groups[0].top1 >= found.groups[1].top1 >= found.groups[2].top1
    if better == "straight":
        assert found.groups[0].example == "10-20-30-40-50"
        assert found.correlation == pytest.approx(1)


def test_few_configurations_give_no_verdict() -> None:
    assert "too few" in findings([result(0, bent(0), 0.5), result(1, bent(3), 0.4)]).verdict
    assert "too few" in findings([result(0, bent(0), 0.5)]).verdict


@pytest.mark.parametrize(
    ("macs", "said"),
    [
        pytest.param(lambda n: n, "rises with multiply-accumulates too: correlation +1.00, p = 0", id="more"),
        pytest.param(lambda n: -n, "falls with multiply-accumulates: correlation -1.00, p = 0", id="fewer"),
        pytest.param(lambda n: n % 2, "do not go together significantly: correlation +0.09", id="any"),
        pytest.param(lambda _: 1, "do not go together significantly: correlation +0.00, p = 1", id="equal"),
    ],
)
def test_what_cost_may_explain_is_said(macs: Callable[[int], int], said: str) -> None:
    found = findings([result(n, bent(0), 0.5 + 0.01 * n, macs(n)) for n in range(20)])
    assert said in found.cost


def test_groups_have_their_mean_cost() -> None:
    found = findings([result(n, bent(n), 0.5 + 0.01 * n, 100 * n) for n in range(20)])
    assert [group.macs for group in found.groups] == [1850, 850, 50]
