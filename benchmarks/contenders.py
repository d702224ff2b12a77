"""The ways to INT8 that are compared: other projects' quantizers, and the files that rexnet-export writes."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import networks
import onnx
import rivals
from networks import Network

import rexnet_export
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.core.errors import ConversionError, TargetUnavailable
from rexnet_export.pipeline.core.records import Artifact, stored_file
from rexnet_export.pipeline.report.report import Report
from rexnet_export.targets import TARGETS
from rexnet_export.targets.tflite.target import open_session

HERE = Path(__file__).parent
EXPORT_IMAGES = 64  # that the export measures itself on; accuracy is measured here
RIVALS: Mapping[str, str] = {
    "ort-defaults": "ONNX Runtime, defaults (per tensor)",
    "ort-min-max": "ONNX Runtime, per channel, min-max",
    "ort-moving-average": "ONNX Runtime, per channel, moving average",
    "ort-percentile": "ONNX Runtime, per channel, percentile 99.99",
    "ort-entropy": "ONNX Runtime, per channel, entropy",
    "nncf-defaults": "NNCF, defaults",
    "nncf-bias-correction": "NNCF, mixed, full bias correction",
    "nncf-smoothquant": "NNCF, mixed, SmoothQuant for convolutions",
    "nncf-openvino": "NNCF, defaults, run in OpenVINO",
    "ai-edge": "ai-edge-quantizer, static_wi8_ai8",
}
SUFFIXES: Mapping[str, str] = {"nncf-openvino": ".xml", "ai-edge": ".tflite"}  # of the others `.onnx`
FILES: Mapping[str, tuple[str, str | None]] = {
    "tflite": ("tflite", None),
    "ort": ("ort", None),
    "ort-x86": ("ort", "x86"),
    "ort-vnni": ("ort", "vnni"),
    "coreml": ("coreml", None),
    "openvino": ("openvino", None),
}
TITLES: Mapping[str, str] = {
    **RIVALS,
    **{name: f"rexnet-export, the {name} file" for name in FILES},
}


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized network that runs, the seconds and peak memory that quantizing took, and by which versions."""

    session: Session
    seconds: float
    peak_mib: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def quantize(method: str, network: Network, python: Path) -> Quantized:
    """Quantize a network in one of the ways of `TITLES`; `python` is that of the rivals' environment."""
    return _rival(method, network, python) if method in RIVALS else _exported(network, *FILES[method])


def settings_digest() -> str:
    """Changes whenever the rivals' settings or versions do: their results are measured again then."""
    sources = (Path(rivals.__file__), HERE / "rivals-requirements.txt")
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _rival(method: str, network: Network, python: Path) -> Quantized:
    path, known = rival_file(method, network, python)
    session = OPENED[path.suffix](path, network.inputs.card.preprocess.shape)
    return Quantized(session=session, seconds=known["seconds"], peak_mib=known["peak_mib"], versions=known["versions"])


def rival_file(method: str, network: Network, python: Path) -> tuple[Path, Mapping[str, Any]]:
    """What a rival makes of a network, for the images that ours take, and what making it cost; made once."""
    suffix = SUFFIXES.get(method, ".onnx")
    path, cost = network.folder / f"{method}{suffix}", network.folder / f"{method}.json"
    known = json.loads(cost.read_text(encoding="utf-8")) if cost.exists() else {}
    if known.get("settings") != settings_digest():
        model, inputs = networks.write_core(network, suffix)
        known = _run([python, rivals.__file__, method, model, inputs, path], network.folder / f"{method}.log")
        if suffix == ".tflite":
            networks.put_between_ends(path, network.inputs.card)
        elif suffix == ".onnx":
            onnx.save(networks.with_front(onnx.load(network.float_onnx.path), onnx.load(path)), path)
        known["settings"] = settings_digest()
        cost.write_text(json.dumps(known), encoding="utf-8")
    return path, known


OPENED: Mapping[str, Callable[[Path, tuple[int, int]], Session]] = {
    ".onnx": networks.open_onnx,
    ".xml": networks.open_ir,
    ".tflite": lambda path, _: open_session(path),
}


def _run(command: list[str | Path], log: Path) -> dict[str, Any]:
    """Run a rival; its last line is what it cost, everything else it said goes to `log`."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise TargetUnavailable(
            f"cannot start {command[0]}: {error.strerror}; make the environment of rivals-requirements.txt and name "
            "its Python with --rivals"
        ) from error
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"code {done.returncode}"]
        raise ConversionError(f"{command[2]} ended with {said[-1]}; its output is in {log}")
    cost: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return cost


def _exported(network: Network, target: str, preset: str | None) -> Quantized:
    """One of the files that a user gets, from one export to all targets with the same calibration images."""
    report, seconds = _export(network.folder / "export", str(network.inputs.checkpoint.file.path), len(network.pixels))
    result = report.targets[target]
    file = result.presets[preset].file if preset else result.artifact.file
    artifact = Artifact(target=target, precision="int8", file=stored_file(file.path))
    return Quantized(
        session=TARGETS[target].open(artifact),
        seconds=seconds,
        versions={"rexnet-export": rexnet_export.__version__},
    )


@cache
def _export(folder: Path, checkpoint: str, calibration_images: int) -> tuple[Report, float]:
    """Export once for all files; the report, and the seconds of all of it, its own measurements included."""
    start = perf_counter()
    report = rexnet_export.export(
        checkpoint,
        targets=list(dict.fromkeys(target for target, _ in FILES.values())),
        precision="int8",
        calibration_images=calibration_images,
        eval_images=EXPORT_IMAGES,
        output=folder,
    )
    return report, round(perf_counter() - start, 1)
