"""Whether the durations may be believed."""

from __future__ import annotations

from typing import Any

from rexnet_export.apps.bench.runner.phases import KEPT_SHARE, Latency
from rexnet_export.pipeline.timing.blocks import steady

MINIMUM = {"duration_s": 0.1, "queries": 64}  # what a bundle's plan asks for


def latency_reasons(
    latency: Latency, minimum: dict[str, Any], disturbed: list[str], kernel: tuple[int, int]
) -> list[str]:
    """Why the durations are worthless, in the result's words; none where nothing speaks against them."""
    reasons = list(disturbed)
    if len(latency.kept_pairs()) < KEPT_SHARE * len(latency.kernels):
        reasons.append("throttled")
    if not steady(*kernel):
        reasons.append("clock_changed")
    return reasons + amount_reasons(latency, minimum)


def amount_reasons(latency: Latency, minimum: dict[str, Any]) -> list[str]:
    """What speaks against durations for there being too few of them."""
    reasons = []
    samples = latency.durations("cand")
    if sum(samples) / 1e9 < float(minimum["duration_s"]):
        reasons.append("min_duration")
    if len(samples) < int(minimum["queries"]):
        reasons.append("min_queries")
    return reasons
