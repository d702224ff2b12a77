"""Benchmark bundles: one deterministic zip with artifacts, images, golden logits, plan and runner."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.runner.validity import MINIMUM
from rexnet_export.pipeline.artifact.self_test import tolerance
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.core.records import RGB, ModelCard, Precision, Preprocess, StoredFile
from rexnet_export.pipeline.data.preprocess import border_colour
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches, images_sha256

SCHEMA_VERSION = 1
SUMS_FILE, BUNDLE_FILE, PLAN_FILE = "SHA256SUMS", "bundle.json", "plan.json"
RUNTIME_NAMES = {"tflite": "tflite", "ort": "onnxruntime", "coreml": "coreml"}
INT8_SCHEME = "activations INT8 per tensor, asymmetric; weights INT8 per output channel, symmetric; bias INT32"
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
BATCH = 100
PARITY_IMAGES = 32
EPOCH = (1980, 1, 1, 0, 0, 0)
UNIX, REGULAR_FILE = 3, 0o100644
PIECE = 2**20

# p99 needs 662 samples; 20 pairs of 40 have 800. The load limit is of one busy neighbour on a few cores.
LATENCY = {"warm_loads": 3, "warmup_runs": 10, "block_warmup": 5, "block_runs": 40, "pairs": 20, "budget_s": 180}
# A page has no int32 product: this one of float32 matrices takes about as long as the runner's.
PAGE_KERNEL = {"side": 64, "products": 2, "repeats": 9}
IDLE = {"max_wait_s": 120, "load_per_cpu": 0.7, "temp_c": 70, "poll_s": 5}

# Entry point: zip files run with `python3 bundle.zip`.
MAIN = """import os
import sys

if sys.version_info < (3, 9):
    sys.stderr.write("device runner: this is Python %d.%d; it needs 3.9 or newer\\n" % sys.version_info[:2])
    sys.exit(13)
bundle = os.path.abspath(os.path.dirname(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(bundle, "runner"))

from pathlib import Path

from rexnet_export.apps.bench.runner.main import main

sys.exit(main(Path(bundle)))
"""
RUNNER = "runner/rexnet_export"
PARENTS = ("__init__.py", "apps/__init__.py", "apps/bench/__init__.py", "pipeline/__init__.py")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An artifact to bundle, open on the desktop; `machines` are the processors it is for (none: all).

    `step` is the quantization step of its logits, `reference` the baseline artifact it is timed against.
    """

    file: StoredFile
    target: str
    precision: Precision
    session: Session
    machines: tuple[str, ...]
    step: float | None
    reference: StoredFile | None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The tool that makes a bundle; the commit where it is a working tree's."""

    name: str
    version: str
    git_commit: str | None
    git_dirty: bool | None


def write_contents(
    folder: Path,
    candidates: Sequence[Candidate],
    images: Images,
    card: ModelCard,
    runner: Mapping[str, bytes],
    seed: int,
    progress: Progress,
) -> None:
    """Write everything but the sums into an empty folder; golden logits are the desktop's, now."""
    if images.labels is None:
        raise UsageError("a bundle needs labelled images; name a folder with one sub-folder per class")
    for name in (candidate.file.path.name for candidate in candidates):
        if not PLAIN_NAME.fullmatch(name):
            raise UsageError(f"artifact name {name!r} is not plain letters, digits, '.', '_', '+' and '-'; rename it")
    golden: dict[str, list[NDArray[np.float32]]] = {candidate.file.path.name: [] for candidate in candidates}
    files = []
    with progress.stage("golden logits", len(images.indices), "images") as bar:
        for number, batch in enumerate(batches(images.source, card.preprocess, images.indices, BATCH)):
            files.append(f"inputs/batch_{number:04}.npy")
            _save(folder / files[-1], batch)
            for candidate in candidates:
                golden[candidate.file.path.name].append(candidate.session.run(batch))
            bar.advance(len(batch))
    for candidate in candidates:
        _save(folder / _expected(candidate), np.concatenate(golden[candidate.file.path.name]).astype("<f4"))
        _copy(candidate.file.path, folder / "model" / candidate.file.path.name)
        if candidate.reference is not None:
            _copy(candidate.reference.path, folder / "reference" / candidate.file.path.name)
    _save(folder / "labels.npy", images.labels.astype("<i8"))
    ids = [json.dumps(images.source.ids[index]) for index in images.indices]
    _text(folder / "image_ids.txt", "".join(f"{name}\n" for name in ids))
    limits = {
        candidate.file.path.name: _tolerance(candidate, np.concatenate(golden[candidate.file.path.name]))
        for candidate in candidates
    }
    _json(folder / "inputs.json", _inputs(folder, files, card))
    _json(folder / "tolerances.json", limits)
    _json(folder / PLAN_FILE, _plan(candidates, images, files, limits, seed))
    _text(folder / "__main__.py", MAIN)
    for name in PARENTS:
        _text(folder / RUNNER / name, "")
    for name, content in runner.items():
        _bytes(folder / RUNNER / name, content)


def seal(folder: Path, origin: Origin, output: Path) -> str:
    """Add `bundle.json` and the sums, and zip the folder to the same bytes every time; returns the bundle's id."""
    sums = dict(_sums(folder))
    identity = hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()).hexdigest()
    created_by = {key: getattr(origin, key) for key in ("name", "version", "git_commit", "git_dirty")}
    _json(folder / BUNDLE_FILE, {"schema_version": SCHEMA_VERSION, "bundle_id": identity, "created_by": created_by})
    _text(folder / SUMS_FILE, "".join(f"{digest}  {name}\n" for name, digest in _sums(folder)))
    partial = output.with_name(f".{output.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for path in _members(folder):
                _add(archive, path, path.relative_to(folder).as_posix())
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return identity


def _plan(
    candidates: Sequence[Candidate],
    images: Images,
    files: Sequence[str],
    limits: Mapping[str, Mapping[str, float | None]],
    seed: int,
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "threads": 1,
        "parity_images": PARITY_IMAGES,
        "dataset": {
            "id": f"{images.source.name}[seed {seed}, {len(images.indices)} images]",
            "sha256": images_sha256(images.source, images.indices),
            "n": len(images.indices),
            "batches": list(files),
        },
        "idle": IDLE,
        "latency": LATENCY | {"seed": seed, "page_kernel": PAGE_KERNEL},
        "minimum": MINIMUM,
        "artifacts": [
            {
                "file": f"model/{candidate.file.path.name}",
                "reference": f"reference/{candidate.file.path.name}" if candidate.reference else None,
                "sha256": candidate.file.sha256,
                "bytes": candidate.file.bytes,
                "target": RUNTIME_NAMES[candidate.target],
                "precision": candidate.precision,
                "opset": None,
                "quant_scheme": INT8_SCHEME if candidate.precision == "int8" else None,
                "machines": list(candidate.machines),
                "expected": _expected(candidate),
                "expected_by": candidate.session.executed_by,
                "tolerance": limits[candidate.file.path.name],
            }
            for candidate in candidates
        ],
    }


def _tolerance(candidate: Candidate, golden: NDArray[np.float32]) -> dict[str, float | None]:
    limit = tolerance(golden, candidate.precision, candidate.step)
    return {"largest": limit.largest, "mean": limit.mean, "step": candidate.step}


def _inputs(folder: Path, files: Sequence[str], card: ModelCard) -> dict[str, Any]:
    height, width = card.preprocess.shape
    return {
        # For images that are not in the bundle.
        "resize": resize_rule(card.preprocess),
        "name": "image",
        "dtype": "uint8",
        "shape": [1, height, width, card.preprocess.channels],
        "layout": "NHWC, RGB" if card.preprocess.channels == RGB else "NHWC",
        "scale": 1.0,
        "zero_point": 0,
        "labels": list(card.labels),
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
    }


def resize_rule(preprocess: Preprocess) -> dict[str, Any]:
    """How the page makes an input of a photo; `border` is the colour around it, in bytes."""
    return {
        "mode": preprocess.crop_mode,
        "to": list(preprocess.resize),
        "interpolation": preprocess.interpolation,
        "border": list(border_colour(preprocess)),
    }


def _expected(candidate: Candidate) -> str:
    return f"expected/{candidate.file.path.name}.npy"


def _members(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _sums(folder: Path) -> Iterator[tuple[str, str]]:
    for path in _members(folder):
        with path.open("rb") as stream:
            yield path.relative_to(folder).as_posix(), hashlib.file_digest(stream, "sha256").hexdigest()


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    member = zipfile.ZipInfo(name, EPOCH)
    member.compress_type, member.create_system, member.external_attr = zipfile.ZIP_DEFLATED, UNIX, REGULAR_FILE << 16
    member.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(member, "w") as sink:
        while piece := source.read(PIECE):
            sink.write(piece)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        _bytes(target, source.read_bytes())
        return
    for member in sorted(source.rglob("*")):
        if member.is_file():
            _bytes(target / member.relative_to(source), member.read_bytes())


def _save(path: Path, values: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def _json(path: Path, value: object) -> None:
    _text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def _text(path: Path, text: str) -> None:
    _bytes(path, text.encode())


def _bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
