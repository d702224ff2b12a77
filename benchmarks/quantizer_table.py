"""What was measured of a quantized network, as a JSON record and as Markdown tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.evaluate import Accuracy, Logits, accuracy, agreement, logit_sqnr_db
from rexnet_export.pipeline.core.records import Measurement, NotMeasured


@dataclass(frozen=True, kw_only=True)
class Result:
    """One network quantized in one way, measured beside its float graph.

    `relative_time` is its median time of one image over the float graph's in ONNX Runtime, where timed.
    """

    accuracy: Accuracy
    agreement: float
    logit_sqnr_db: float
    executed_by: str
    seconds: float
    peak_mib: int | None
    versions: Mapping[str, str] = field(default_factory=dict)
    relative_time: float | None = None


type Results = Mapping[str, Measurement[Result]]  # by method


def measured(
    logits: Logits,
    reference: Logits,
    labels: NDArray[np.int64],
    **facts: Any,  # noqa: ANN401 - the other fields
) -> Result:
    """Compare logits with the float graph's on the same images."""
    return Result(
        accuracy=accuracy(logits, reference, labels),
        agreement=agreement(logits, reference),
        logit_sqnr_db=logit_sqnr_db(logits, reference),
        **facts,
    )


def save(result: Result, settings: str, path: Path) -> None:
    """Keep a result beside the digest of the settings it was made with; `path` appears complete or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"settings": settings, "result": asdict(result)}, indent=1), encoding="utf-8")
    part.replace(path)


def load(path: Path, settings: str) -> Result | None:
    """A kept result, if there is one that was made with these settings."""
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept["settings"] != settings:
        return None
    return Result(**{**kept["result"], "accuracy": Accuracy(**kept["result"]["accuracy"])})


def timed(results: Results, medians: Mapping[str, float], reference: float) -> dict[str, Measurement[Result]]:
    """The results with the times of those that were timed, over that of the float graph."""
    return {
        method: replace(result, relative_time=medians[method] / reference)
        if isinstance(result, Result) and method in medians
        else result
        for method, result in results.items()
    }


def summary(networks: Mapping[str, Results], titles: Mapping[str, str]) -> str:
    """Method x network: top-1, agreement with float in %, logit SQNR in dB."""
    methods = [method for method in titles if any(method in results for results in networks.values())]
    rows = [["top-1 / agreement / SQNR", *networks], ["float", *map(_float_top1, networks.values())]]
    rows += [[titles[method], *(_short(results.get(method)) for results in networks.values())] for method in methods]
    return _markdown(rows)


def details(results: Results, titles: Mapping[str, str]) -> str:
    """One network: every number, and why there is none where there is none."""
    rows = [
        ["quantizer", "top-1", "drop", "95 % limit", "agreement", "SQNR", "time / float", "quantizing s", "peak MiB"]
    ]
    reasons = []
    for method in [method for method in titles if method in results]:
        result = results[method]
        if isinstance(result, NotMeasured):
            reasons.append(f"{titles[method]}: not measured, {result.reason}")
        else:
            rows.append([titles[method], *_cells(result)])
    return "\n\n".join([_markdown(rows), *reasons])


def _cells(result: Result) -> list[str]:
    return [
        f"{result.accuracy.top1:.2%}",
        f"{100 * result.accuracy.drop:.2f}",
        f"{100 * result.accuracy.drop_upper_95:.2f}",
        f"{result.agreement:.2%}",
        _decibels(result),
        "" if result.relative_time is None else f"{result.relative_time:.2f}",
        f"{result.seconds:.1f}",
        "" if result.peak_mib is None else f"{result.peak_mib}",
    ]


def _short(result: Measurement[Result] | None) -> str:
    if not isinstance(result, Result):
        return "-" if result is None else "failed"
    return f"{100 * result.accuracy.top1:.2f} / {100 * result.agreement:.2f} / {_decibels(result)}"


def _decibels(result: Result) -> str:
    return f"{result.logit_sqnr_db:.1f}" if math.isfinite(result.logit_sqnr_db) else "exact"


def _float_top1(results: Results) -> str:
    found = next((result for result in results.values() if isinstance(result, Result)), None)
    return "-" if found is None else f"{100 * found.accuracy.reference_top1:.2f} (n = {found.accuracy.n:,})"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["--"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
