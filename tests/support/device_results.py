"""Results of devices that never ran: everything in them fits together, until somebody edits it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from rexnet_export.apps.bench.browser.result import accept
from rexnet_export.apps.bench.result.host_result import Bundle

IMAGES, CLASSES, NAME = 24, 10, "net-int8.tflite"
VERSIONS = {"litert.js": "2.5.3"}


def bundle(folder: Path) -> Bundle:
    """An unpacked bundle of one artifact whose golden logits are random, but have two images in three right."""
    rng = np.random.default_rng(0)
    golden = rng.normal(size=(IMAGES, CLASSES)).astype("<f4")
    labels = golden.argmax(1)
    labels[::3] = (labels[::3] + 1) % CLASSES
    (folder / "expected").mkdir(parents=True)
    np.save(folder / "expected" / f"{NAME}.npy", golden)
    np.save(folder / "labels.npy", labels.astype("<i8"))
    artifact = {
        "file": f"model/{NAME}",
        "reference": f"reference/{NAME}",
        "sha256": "a" * 64,
        "bytes": 1000,
        "target": "tflite",
        "precision": "int8",
        "opset": None,
        "quant_scheme": "a scheme",
        "machines": [],
        "expected": f"expected/{NAME}.npy",
        "expected_by": "LiteRT",
        "tolerance": {"largest": 0.1, "mean": 0.1, "step": 0.01},
    }
    plan = {
        "threads": 1,
        "parity_images": 8,
        "dataset": {"id": "photos[seed 0, 24 images]", "sha256": "b" * 64, "n": IMAGES, "batches": []},
        "latency": {"warmup_runs": 10, "seed": 0},
        "minimum": {"duration_s": 0.1, "queries": 64},
        "artifacts": [artifact],
    }
    created = {"name": "rexnet-export", "version": "0.1.0", "git_commit": None, "git_dirty": None}
    return Bundle(folder=folder, identity={"bundle_id": "c" * 64, "created_by": created}, plan=plan)


def upload(golden: np.ndarray, artifact: str = NAME) -> dict[str, Any]:
    """What a browser sends that computes as the desktop does; the candidate is about twice as fast."""
    pair = {
        "kernel": [1000, 1010],
        "blocks": [
            {"arm": "base", "started_s": 0.5, "durations_ns": [2_000_000] * 40},
            {"arm": "cand", "started_s": 0.6, "durations_ns": [1_000_000, 1_200_000] * 20},
        ],
    }
    return {
        "artifact": artifact,
        "runtime": {"name": "litert.js", "backend": "wasm", "threads": 1, "isolated": True, "gpu": None},
        "device": {
            "user_agent": "Mozilla/5.0 (Linux; Android 16)",
            "platform": "Android",
            "platform_version": "16.0.0",
            "model": "Phone 7",
            "architecture": "arm",
            "cores": 8,
            "memory_gib": 8,
        },
        "battery": [{"percent": 80, "charging": False}, {"percent": 79, "charging": False}],
        "started_at": "2026-01-02T03:04:05Z",
        "hidden": False,
        "load": {"cold_ns": 5, "warm_ns": [4, 3, 2], "first_inference_ns": 9},
        "warmup_s": 0.1,
        "kernel": [1000, 1000],
        "pairs": [pair] * 20,
        "logits": base64.b64encode(golden.astype("<f4").tobytes()).decode(),
    }


def device_result(folder: Path) -> Path:
    """The folder of a valid result."""
    made = bundle(folder / "bundle")
    sent = upload(np.load(made.folder / "expected" / f"{NAME}.npy"))
    accept(json.dumps(sent).encode(), made, VERSIONS, folder / "result")
    return folder / "result"


def seal(result: Path) -> Path:
    """Write DONE anew, as somebody who also knows it could."""
    files = sorted(path for path in result.iterdir() if path.name != "DONE")
    (result / "DONE").write_text(
        "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    )
    return result
