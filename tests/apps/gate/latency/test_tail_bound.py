"""The bound on a percentile: published sample sizes, and how often it holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rexnet_export.apps.gate.latency.tail_bound import needed, percentile_bound, thinned
from rexnet_export.pipeline.core.records import NotMeasured


@pytest.mark.parametrize(("percentile", "least"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662)])
def test_the_published_minimum_of_samples(percentile: float, least: int) -> None:
    assert needed(1, percentile) == least
    refused = percentile_bound(range(least - 1), percentile)
    assert isinstance(refused, NotMeasured)
    assert str(least) in refused.reason
    assert percentile_bound(range(least), percentile) == least - 1


def test_more_samples_discard_the_largest() -> None:
    second = needed(2, 0.9)
    assert percentile_bound(range(second - 1), 0.9) == second - 2
    assert percentile_bound(range(second), 0.9) == second - 2


@given(st.integers(1, 40), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_each_discarded_sample_costs_more_samples(over: int, percentile: float) -> None:
    assert needed(over, percentile) < needed(over + 1, percentile)


@given(st.lists(st.integers(1, 10**9), min_size=64, max_size=300))
def test_the_bound_is_a_sample_at_or_above_the_percentile_seen(samples: list[int]) -> None:
    bound = percentile_bound(samples, 0.9)
    assert bound in samples
    assert bound >= np.percentile(samples, 90, method="lower")


def test_the_bound_holds_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    truth = 1000 * np.log(10)  # the P90 of an exponential distribution with mean 1000
    bounds = [percentile_bound(random.exponential(1000, 200).tolist(), 0.9) for _ in range(1_000)]
    held = [bound for bound in bounds if not isinstance(bound, NotMeasured) and bound >= truth]
    assert len(held) >= 980  # 99 %, less three standard errors


def test_independent_samples_are_kept_and_repeated_ones_thinned() -> None:
    random = np.random.default_rng(0)
    independent = random.integers(0, 1000, 500).tolist()
    assert thinned(independent) == tuple(independent)
    repeated = np.repeat(independent, 4).tolist()
    assert len(thinned(repeated)) <= 500
    assert thinned([7] * 10) == (7,) * 10


def test_samples_that_resemble_their_neighbours_by_more_than_chance_are_thinned() -> None:
    """Of 400 independent ones, two steps of noise are a correlation of 0.1; here it is 0.12."""
    random = np.random.default_rng(0)
    samples = [0.0]
    for step in random.normal(size=399):
        samples.append(0.13 * samples[-1] + step)
    assert len(thinned([round(10_000 + 1_000 * sample) for sample in samples])) == 200


def test_samples_that_go_to_and_fro_are_hardly_any() -> None:
    assert len(thinned([1, 2] * 50)) == 2
