import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.pipeline.timing.summary import describe, median, p90_bound, paired_ratio, quantile


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=80))
def test_order_statistics(values: list[int]) -> None:
    assert min(values) <= median(values) <= max(values)
    assert sum(value <= quantile(values, 0.9) for value in values) >= 0.9 * len(values)


@pytest.mark.parametrize(
    ("n", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_percentiles_need_their_samples(n: int, p90: bool, p99: bool) -> None:  # noqa: FBT001
    found, missing = describe(list(range(1, n + 1)))
    assert (found["p90_ns"] is not None) == p90 == (found["p90_bound"] is not None) == ("p90_ns" not in missing)
    assert (found["p99_ns"] is not None) == p99 == ("p99_ns" not in missing)
    assert found["p50_ns"] == (n + 1) // 2


def test_bound_leaves_out_what_early_stopping_does() -> None:
    """64 samples carry the largest one as bound; 102 carry the second largest (I_0.9(h, t + 1) <= 0.01)."""
    assert p90_bound(range(63)) is None
    assert p90_bound(range(64)) == {"value_ns": 63, "confidence": 0.99, "n": 64, "t": 1}
    scipy_special = pytest.importorskip("scipy.special")
    for n in (80, 150, 400):
        bound = p90_bound(range(n))
        assert bound is not None
        t = bound["t"]
        assert bound["value_ns"] == n - t
        assert scipy_special.betainc(n - t, t + 1, 0.9) <= 0.01 < scipy_special.betainc(n - t - 1, t + 2, 0.9)


def test_ratio_has_the_interval_of_a_median() -> None:
    found = paired_ratio([1 + i / 100 for i in range(20)], 3)
    assert found is not None
    assert (found["ci_low"], found["ci_high"]) == (
        1.05,
        pytest.approx(1.14),
    )  # ranks 6 and 15 of 20: 5.8 % outside at most 10 %
    assert found["ci_low"] < found["ratio_median"] < found["ci_high"]
    assert found["pairs"] == 20
    assert found["seed"] == 3
    assert paired_ratio([1.0] * 4, 0) is None
