"""Parts of a result that are made of measurements alone, wherever these were taken."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.runner.phases import Latency, block_record
from rexnet_export.pipeline.timing.summary import describe, paired_ratio

SCHEMA_VERSION = 1


def bundle_group(artifact: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any]:
    """What was run."""
    return {
        "bundle_id": identity["bundle_id"],
        "model_sha256": artifact["sha256"],
        "model_size_bytes": artifact["bytes"],
        "target": artifact["target"],
        "precision": artifact["precision"],
        "opset": artifact["opset"],
        "quant_scheme": artifact["quant_scheme"],
    }


def latency_group(latency: Latency, plan: dict[str, Any], unknown: dict[str, str]) -> dict[str, Any]:
    """Blocks and statistics of the candidate; `unknown` gets the reason for every statistic that is null."""
    found, missing = describe(latency.durations("cand"))
    unknown.update({f"latency.{key}": reason for key, reason in missing.items()})
    return {
        "warmup": {"runs": plan["warmup_runs"], "seconds": round(latency.warmup_s, 3)},
        "blocks": [block_record(block) for block in latency.blocks],
        "raw_file": "raw_latency.npy",
        **found,
    }


def paired_group(latency: Latency, seed: int, unknown: dict[str, str]) -> dict[str, Any]:
    """The ratio to the baseline, where there is one and enough pairs were steady."""
    has_baseline = any(block.arm == "base" for block in latency.blocks)
    found = paired_ratio(latency.ratios(), seed) if has_baseline else None
    if found is None:
        reason = "fewer than 5 steady pairs" if has_baseline else "the bundle has no baseline artifact"
        keys = ("ratio_median", "ci_low", "ci_high", "confidence", "method")
        found = {**dict.fromkeys(keys), "pairs": 0, "seed": seed}
        unknown["paired"] = reason
    return found


def dataset_group(dataset: dict[str, Any], predictions_sha256: str) -> dict[str, Any]:
    """Which images the predictions are of, and where they are."""
    return {
        "predictions_sha256": predictions_sha256,
        "per_image_file": "predictions.npy",
        "dataset_id": dataset["id"],
        "dataset_sha256": dataset["sha256"],
    }


def save_predictions(out: Path, logits: NDArray[np.float32]) -> str:
    """Top-1 of every image as uint16, and the logits; returns the digest of the predictions' bytes."""
    predictions = logits.argmax(1).astype("<u2")
    np.save(out / "predictions.npy", predictions)
    np.save(out / "logits.npy", logits.astype("<f4"))
    return hashlib.sha256(predictions.tobytes()).hexdigest()


def save_truth(out: Path, labels: NDArray[np.int64], golden: NDArray[np.float32], images: int) -> None:
    """What the first `images` predictions are compared with, so that whoever reads the result can do it again."""
    np.save(out / "labels.npy", labels[:images].astype("<i8"))
    np.save(out / "expected.npy", golden[:images].astype("<f4"))


def raw_latency(latency: Latency) -> NDArray[np.int64]:
    """int64 [samples, 3]: pair, arm (0 base, 1 cand), ns; in the order taken."""
    rows = [(b.pair, int(b.arm == "cand"), duration) for b in latency.blocks for duration in b.durations]
    return np.array(rows, np.int64)


def explain(group: dict[str, Any], name: str, unknown: dict[str, str], reason: str) -> None:
    """Give everything that is null in a group its reason; an emulator is something not to have."""
    for key, value in group.items():
        if value is None and key != "emulator":
            unknown.setdefault(f"{name}.{key}", reason)


def timestamp() -> str:
    """Now, RFC 3339 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
