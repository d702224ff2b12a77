"""`report.json` and `manifest.json`: what was made, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rexnet_export.pipeline.core.environment import environment
from rexnet_export.pipeline.core.json import now, plain
from rexnet_export.pipeline.core.records import Measurement, ModelCard, NotMeasured, Precision, StoredFile
from rexnet_export.pipeline.export.preprocess_check import PreprocessCheck
from rexnet_export.pipeline.graph.parity import Parity
from rexnet_export.pipeline.proof.compare import TensorDifference
from rexnet_export.pipeline.proof.flips import Flips
from rexnet_export.pipeline.proof.results import FileResult, Reference, StageResult, TargetResult
from rexnet_export.pipeline.proof.tensor_noise import Layers
from rexnet_export.quantization.calibration.channel_spread import Spread
from rexnet_export.quantization.onnx.simulate import Score
from rexnet_export.quantization.search.choose_groups import Cut
from rexnet_export.quantization.search.mixed_precision import Mixed
from rexnet_export.quantization.search.search import Trial
from rexnet_export.quantization.search.sensitivity import Sensitivity

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """Where the INT8 ranges come from, and what is doubtful about the images."""

    source: str
    images: int
    images_sha256: str
    statistic: str
    seed: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How INT8 was searched for, judged by `images` that no range comes from.

    What was tried and kept; how even channels were and are; what groups of channels would save and cost, layer by
    layer; what each tensor damages.
    """

    images: int
    trials: tuple[Trial, ...]
    spreads: tuple[Spread, ...]
    cuts: tuple[Cut, ...]
    sensitivities: tuple[Sensitivity, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that one export found; `created` is fixed with the record, so every rendering of it says the same.

    `notices` are what a person has to know before any figure: what was assumed, and what looks wrong.
    """

    card: ModelCard
    notices: tuple[str, ...]
    preprocess_check: Measurement[PreprocessCheck]
    precision: Precision
    reference: Reference
    onnx_parity: Parity
    stages: Mapping[str, StageResult]
    calibration: CalibrationResult | None
    quality: Measurement[Quality]
    mixed: Measurement[Mixed]
    targets: Mapping[str, TargetResult]
    layers: Layers
    flips: Measurement[Flips]
    seconds: Mapping[str, float]
    created: str = field(default_factory=now)

    def to_json(self) -> dict[str, Any]:
        """The content of `report.json` (`report.schema.json`); what was not measured is `{"not_measured": reason}`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "created": self.created,
            "notices": list(self.notices),
            "model": _model_json(self.card),
            "preprocess_check": _preprocess_json(self.preprocess_check),
            "precision": self.precision,
            "reference": plain(self.reference),
            "onnx_parity": self.onnx_parity.to_json(),
            "stages": {name: _stage_json(result) for name, result in self.stages.items()},
            "calibration": plain(self.calibration) or NOT_CALIBRATED,
            "quantization": _quality_json(self.quality),
            "mixed_precision": _mixed_json(self.mixed),
            "targets": {name: _target_json(result, self.card) for name, result in self.targets.items()},
            "layers": plain(self.layers),
            "flips": plain(self.flips),
            "seconds": {stage: round(seconds, 2) for stage, seconds in self.seconds.items()},
            "environment": environment(),
        }


NOT_CALIBRATED = {"not_measured": "only INT8 is calibrated"}


def _preprocess_json(judged: Measurement[PreprocessCheck]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(judged, NotMeasured):
        return plain(judged)
    tried = [{"changes": plain(each.changes), **plain(each.paired)} for each in judged.tried]
    return {"tried": tried, "better": judged.better.flags if judged.better else None}


def _quality_json(quality: Measurement[Quality]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(quality, NotMeasured):
        return plain(quality)
    return {
        "images": quality.images,
        "trials": [{"name": each.name, **_score(each.score), "kept": each.kept} for each in quality.trials],
        "channel_ranges": plain(quality.spreads),
        "groups": [
            {
                "layer": cut.layer,
                "sizes": list(cut.rewrite.sizes) if cut.rewrite else [],
                "logit_noise": cut.noise,
                "cost": cut.cost,
                "kept": cut.kept,
            }
            for cut in quality.cuts
        ],
        "sensitivity": [
            {
                "tensor": each.tensor,
                "only": _score(each.only),
                "all_but": plain(each.all_but) if isinstance(each.all_but, NotMeasured) else _score(each.all_but),
            }
            for each in quality.sensitivities
        ],
    }


def _mixed_json(mixed: Measurement[Mixed]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(mixed, NotMeasured):
        return plain(mixed)
    return {
        "images": mixed.mixed.images,
        "int8": {"changed": mixed.int8.changed, "expected": mixed.int8.expected},
        "mixed": {"changed": mixed.mixed.changed, "expected": mixed.mixed.expected},
        "float_mac_fraction": mixed.float_mac_fraction,
        "float_layers": plain(mixed.units),
        "simulations": mixed.simulations,
    }


def _score(score: Score) -> dict[str, float | None]:
    """Decibels are null where nothing differs at all."""
    return {"sqnr_db": score.sqnr_db if math.isfinite(score.sqnr_db) else None, "agreement": score.agreement}


def _stage_json(result: StageResult) -> dict[str, Any]:
    return {
        "file": result.file.path.name,
        "sha256": result.file.sha256,
        "executed_by": result.executed_by,
        "top1": plain(result.top1),
        "agreement_with_reference": result.agreement_with_reference,
    }


def _model_json(card: ModelCard) -> dict[str, Any]:
    """A classifier has no features and does not speak of them."""
    return {key: value for key, value in plain(card).items() if key != "features" or value}


def _target_json(result: TargetResult, card: ModelCard) -> dict[str, Any]:
    read = result.qparams_read
    return {
        "precision": result.precision,
        **_file_json(result.artifact, card),
        # A file that holds other parameters is no result but an error.
        "qparams_equal": plain(read) if isinstance(read, NotMeasured) else True,
        "qparams_read": plain(read),
        "presets": {name: _file_json(preset, card) for name, preset in result.presets.items()},
    }


def _file_json(result: FileResult, card: ModelCard) -> dict[str, Any]:
    coverage = result.coverage
    return {
        "artifact": result.file.path.name,
        "sha256": result.file.sha256,
        "bytes": result.file.bytes,
        "executed_by": plain(result.executed_by),
        **({"outputs": _outputs_json(result.outputs)} if card.features else {}),
        "accuracy": plain(result.accuracy),
        "agreement_with_reference": plain(result.agreement_with_reference),
        "int8_mac_fraction": plain(coverage if isinstance(coverage, NotMeasured) else coverage.int8_mac_fraction),
        "float_ops": plain(coverage if isinstance(coverage, NotMeasured) else coverage.float_ops),
        "logit_sqnr_db": plain(result.logit_sqnr_db),
        "latency": plain(result.latency),
    }


def manifest(files: Mapping[str, StoredFile], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Every file of the output folder with size and digest, and what they were made from."""
    return {
        "schema_version": SCHEMA_VERSION,
        "inputs": plain(inputs),
        "files": {name: {"sha256": f.sha256, "bytes": f.bytes} for name, f in sorted(files.items())},
        "environment": environment(),
    }


def _outputs_json(outputs: Measurement[tuple[TensorDifference, ...]]) -> dict[str, Any]:
    """Of a classifier the logits' own figures say the same."""
    if isinstance(outputs, NotMeasured):
        return {"not_measured": outputs.reason}
    return {each.name: {"sqnr_db": plain(each.sqnr_db), "largest_difference": each.largest} for each in outputs}
