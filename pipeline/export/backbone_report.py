"""`backbone.json`: what was made of a network without its head, and how far each output is from the float network's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rexnet_export.pipeline.core.environment import environment
from rexnet_export.pipeline.core.json import now, plain
from rexnet_export.pipeline.core.records import BackboneCard, Coverage, Measurement, NotMeasured, Precision, StoredFile
from rexnet_export.pipeline.export.report import NOT_CALIBRATED, CalibrationResult
from rexnet_export.pipeline.proof.compare import TensorDifference
from rexnet_export.pipeline.proof.latency import Latency
from rexnet_export.pipeline.proof.results import ReadBack

SCHEMA_VERSION = 1

type Differences = tuple[TensorDifference, ...]


@dataclass(frozen=True, kw_only=True)
class BackboneFile:
    """What was measured of one file; `outputs` are compared with the float network's, the finest first."""

    file: StoredFile
    executed_by: Measurement[str]
    outputs: Measurement[Differences]
    coverage: Coverage
    latency: Measurement[Latency]


@dataclass(frozen=True, kw_only=True)
class BackboneResult:
    """One target: its artifact, and its presets for other processors by name."""

    precision: Precision
    artifact: BackboneFile
    presets: Mapping[str, BackboneFile]
    qparams_read: Measurement[ReadBack]


@dataclass(frozen=True, kw_only=True)
class BackboneReport:
    """All that one export found; `reference` ran the float network in torch on `n` images of `images`.

    `notices` are what a person has to know before any figure.
    """

    card: BackboneCard
    notices: tuple[str, ...]
    precision: Precision
    reference: str
    images: str
    n: int
    onnx_parity: Differences
    calibration: CalibrationResult | None
    targets: Mapping[str, BackboneResult]
    created: str = field(default_factory=now)

    def to_json(self) -> dict[str, Any]:
        """The content of `backbone.json`; what was not measured is `{"not_measured": reason}`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "created": self.created,
            "notices": list(self.notices),
            "model": plain(self.card),
            "precision": self.precision,
            "reference": {"executed_by": self.reference, "images": self.images, "n": self.n},
            "onnx_parity": _differences(self.onnx_parity),
            "calibration": plain(self.calibration) or NOT_CALIBRATED,
            "targets": {
                name: {
                    "precision": result.precision,
                    **_file(result.artifact),
                    "qparams_read": plain(result.qparams_read),
                    "presets": {preset: _file(file) for preset, file in result.presets.items()},
                }
                for name, result in self.targets.items()
            },
            "environment": environment(),
        }


def _file(result: BackboneFile) -> dict[str, Any]:
    return {
        "artifact": result.file.path.name,
        "sha256": result.file.sha256,
        "bytes": result.file.bytes,
        "executed_by": plain(result.executed_by),
        "outputs": plain(result.outputs) if isinstance(result.outputs, NotMeasured) else _differences(result.outputs),
        "int8_mac_fraction": result.coverage.int8_mac_fraction,
        "float_ops": list(result.coverage.float_ops),
        "latency": plain(result.latency),
    }


def _differences(outputs: Differences) -> dict[str, Any]:
    return {each.name: {"sqnr_db": plain(each.sqnr_db), "largest_difference": each.largest} for each in outputs}
