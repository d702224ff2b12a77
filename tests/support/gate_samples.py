"""Output folders of exports that never happened: the wanted networks have the wanted images wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from manifests import vouch
from numpy.typing import NDArray
from report_samples import made, report

from rexnet_export.pipeline.core.records import file_sha256

CLASSES = ("cat", "dog", "owl")
REFERENCE_WRONG = tuple(range(40))


def labels(images: int) -> NDArray[np.int64]:
    return np.arange(images) % len(CLASSES)


def logits(images: int, wrong: Sequence[int]) -> NDArray[np.float32]:
    """Right on every image but those named, where the next class wins."""
    chosen = labels(images)
    chosen[list(wrong)] = (chosen[list(wrong)] + 1) % len(CLASSES)
    return np.eye(len(CLASSES), dtype=np.float32)[chosen] * 4


def write_export(
    folder: Path, wrong: Mapping[str, Sequence[int]] | None = None, images: int = 400, **changed: object
) -> Path:
    """An export whose networks (keys of `predictions.npz`) have images wrong, by default `REFERENCE_WRONG` all;
    `changed` replaces parts of the report."""
    keys = ("reference", "onnx-float", "onnx-equalized", "onnx-quantized", "ort", "ort-x86")
    arrays: dict[str, Any] = {key: logits(images, (wrong or {}).get(key, REFERENCE_WRONG)) for key in keys}
    arrays |= {"ids": np.array([f"photos/{index}.png" for index in range(images)]), "labels": labels(images)}
    content = report(ort=made("rexnet_100-int8.ort")).to_json()
    content["model"]["labels"] = list(CLASSES)
    content["reference"]["n"] = images
    float_stage = content["stages"]["float"]
    content["stages"] = {name: dict(float_stage) for name in ("float", "equalized", "quantized")}
    content["targets"]["ort"]["executed_by"] = "ONNX Runtime 1.26.0"
    content["targets"]["ort"]["presets"]["x86"]["executed_by"] = "ONNX Runtime 1.26.0"
    folder.mkdir(parents=True, exist_ok=True)
    for stage in content["stages"].values():
        _artifact(folder, stage, "file")
    for entry in (content["targets"]["ort"], *content["targets"]["ort"]["presets"].values()):
        _artifact(folder, entry, "artifact")
    return write_files(folder, {**content, **changed}, arrays)


def write_files(folder: Path, content: Mapping[str, Any], arrays: Mapping[str, Any]) -> Path:
    """The folder's files, and a manifest that vouches for them."""
    (folder / "report.json").write_text(json.dumps(content))
    np.savez_compressed(folder / "predictions.npz", **arrays)
    return vouch(folder)


def _artifact(folder: Path, entry: dict[str, Any], key: str) -> None:
    """A file in place of the one the entry names."""
    path = folder / entry[key]
    path.write_bytes(path.name.encode())
    entry["sha256"] = file_sha256(path)


def edit(folder: Path, arrays: Mapping[str, Any] | None = None, **changed: object) -> Path:
    """Change parts of the report, and arrays (None removes one), as somebody who also writes the manifest could."""
    content = {**json.loads((folder / "report.json").read_text()), **changed}
    with np.load(folder / "predictions.npz") as stored:
        kept = {name: stored[name] for name in stored.files} | dict(arrays or {})
    return write_files(folder, content, {name: array for name, array in kept.items() if array is not None})
