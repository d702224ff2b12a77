"""A gate's measures as the JSON that dashboards read: github-action-benchmark's and Bencher's."""

from __future__ import annotations

import json
import re
from typing import Any

from rexnet_export.apps.gate.outputs.sheet import Better, Metric, Sheet

MILLISECOND = 1_000_000  # nanoseconds, the unit of Bencher's own measure `latency`
LONGEST_NAME = 1024  # of a benchmark in Bencher


def smaller_is_better(sheet: Sheet) -> str:
    """For github-action-benchmark with `tool: customSmallerIsBetter`."""
    return _custom(sheet, "smaller")


def bigger_is_better(sheet: Sheet) -> str:
    """For github-action-benchmark with `tool: customBiggerIsBetter`."""
    return _custom(sheet, "bigger")


def _custom(sheet: Sheet, better: Better) -> str:
    """That tool alarms on the ratio to the last value, so differences around zero are not in it."""
    return _text([_entry(metric, sheet) for metric in sheet.metrics if metric.better == better])


def _entry(metric: Metric, sheet: Sheet) -> dict[str, Any]:
    entry = {
        "name": f"{metric.subject}: {metric.measure}",
        "unit": metric.unit,
        "value": metric.value,
        "extra": f"{sheet.command}: {sheet.words.verdict}\n{sheet.title}",
    }
    if metric.lower is not None and metric.upper is not None:
        entry["range"] = f"{metric.lower:g} .. {metric.upper:g}"
    return entry


def bencher(sheet: Sheet) -> str:
    """Bencher Metric Format: benchmarks by name, in each the measures by slug."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for metric in sheet.metrics:
        found.setdefault(metric.subject[:LONGEST_NAME], {})[_slug(metric.measure)] = _values(metric)
    return _text(found)


def _values(metric: Metric) -> dict[str, float]:
    scale = MILLISECOND if metric.unit == "ms" else 1
    values = {"value": metric.value, "lower_value": metric.lower, "upper_value": metric.upper}
    return {name: scale * value for name, value in values.items() if value is not None}


def _slug(measure: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", measure.lower()).strip("-")


def _text(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
