"""`report.json`: what was made, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy
from rexnet_export.pipeline.accuracy.flips import Flips
from rexnet_export.pipeline.accuracy.image_noise import ImageNoise
from rexnet_export.pipeline.accuracy.preprocess_check import PreprocessCheck
from rexnet_export.pipeline.core.json import now
from rexnet_export.pipeline.core.records import Measurement, ModelCard, NotMeasured, Precision
from rexnet_export.pipeline.graph.float_tracer import LOGITS
from rexnet_export.pipeline.graph.parity import Parity
from rexnet_export.pipeline.machine.environment import recorded_environment
from rexnet_export.pipeline.proof.results import FileResult, Reference, StageResult, TargetResult
from rexnet_export.pipeline.proof.tensor_noise import Layers
from rexnet_export.pipeline.report.report_display import html_table, one_line
from rexnet_export.pipeline.report.report_json import (
    BackboneJson,
    CalibrationResult,
    ChangesJson,
    FileJson,
    GroupsJson,
    LogitParityJson,
    MixedJson,
    ModelJson,
    OutputJson,
    OutputParityJson,
    PreprocessCheckJson,
    QualityJson,
    RegressionJson,
    ReportJson,
    ScoreJson,
    SensitivityJson,
    StageJson,
    TargetJson,
    TrialJson,
    TriedJson,
)
from rexnet_export.quantization.calibration.channel_spread import Spread
from rexnet_export.quantization.onnx.simulate import Score
from rexnet_export.quantization.search.choose_groups import Cut
from rexnet_export.quantization.search.mixed_precision import Changes, Mixed
from rexnet_export.quantization.search.search import Trial
from rexnet_export.quantization.search.sensitivity import Sensitivity
from rexnet_export.quantization.table.table import QuantTable

NOT_CALIBRATED = NotMeasured(reason="only INT8 is calibrated")


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How INT8 was searched for, judged by `images` that no range comes from; the float network sees `classes` in them.

    What was tried and kept; how even channels were and are; what groups of channels would save and cost, layer by
    layer; what each tensor damages.
    """

    images: int
    classes: int
    trials: tuple[Trial, ...]
    spreads: tuple[Spread, ...]
    cuts: tuple[Cut, ...]
    sensitivities: tuple[Sensitivity, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """All that one export found; `created` is fixed with the record, so every rendering of it says the same.

    `notices` are what a person has to know before any figure: what was assumed, and what looks wrong. `output` is the
    folder that the files are in.
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
    table: QuantTable | None
    targets: Mapping[str, TargetResult]
    layers: Layers
    flips: Measurement[Flips]
    classes: Measurement[tuple[ClassAccuracy, ...]]
    image_noise: Mapping[str, Measurement[ImageNoise]]
    seconds: Measurement[Mapping[str, float]]
    output: Path
    created: str = field(default_factory=now)

    def to_json(self) -> dict[str, Any]:
        """The content of `report.json`; what was not measured is `{"not_measured": reason}`."""
        return _report_json(self).to_json()

    def __repr__(self) -> str:
        """One line; notebooks show `_repr_html_`."""
        return one_line(self)

    def _repr_html_(self) -> str:
        """A row a file, for notebooks."""
        return html_table(self)


def _report_json(report: Report) -> ReportJson:
    return ReportJson(
        created=report.created,
        notices=report.notices,
        model=_model(report.card),
        preprocess_check=_preprocess_check(report.preprocess_check),
        precision=report.precision,
        reference=report.reference,
        onnx_parity=_parity(report.onnx_parity),
        stages={name: _stage(result) for name, result in report.stages.items()},
        calibration=report.calibration or NOT_CALIBRATED,
        quantization=_quality(report.quality),
        mixed_precision=_mixed(report.mixed),
        targets={name: _target(result, report.card) for name, result in report.targets.items()},
        layers=dict(report.layers),
        flips=report.flips,
        classes=report.classes,
        image_noise=dict(report.image_noise),
        seconds=report.seconds
        if isinstance(report.seconds, NotMeasured)
        else {stage: round(seconds, 2) for stage, seconds in report.seconds.items()},
        environment=recorded_environment(),
    )


def _model(card: ModelCard) -> ModelJson:
    """A classifier has no features and does not speak of them; heads and numbers are said where there are any."""
    said = {key: value for key, value in vars(card).items() if value or key not in {"features", "heads", "numbers"}}
    if card.features:
        return BackboneJson(**said)
    return RegressionJson(**said) if card.numbers else ModelJson(**said)


def _preprocess_check(judged: Measurement[PreprocessCheck]) -> Measurement[PreprocessCheckJson]:
    if isinstance(judged, NotMeasured):
        return judged
    tried = tuple(TriedJson(changes=dict(each.changes), **vars(each.paired)) for each in judged.tried)
    return PreprocessCheckJson(tried=tried, better=judged.better.flags if judged.better else None)


def _parity(parity: Parity) -> LogitParityJson | dict[str, OutputParityJson]:
    if parity.same_top1 is None:
        return {
            name: OutputParityJson(largest_difference=output.largest_difference)
            for name, output in parity.outputs.items()
        }
    return LogitParityJson(
        max_abs_difference=parity.max_abs_difference,
        largest_logit=parity.outputs[LOGITS].largest,
        same_top1=parity.same_top1,
        n=parity.n,
    )


def _stage(result: StageResult) -> StageJson:
    return StageJson(
        file=result.file.path.name,
        sha256=result.file.sha256,
        executed_by=result.executed_by,
        n=result.n,
        top1=result.top1,
        agreement_with_reference=result.agreement_with_reference,
    )


def _quality(quality: Measurement[Quality]) -> Measurement[QualityJson]:
    if isinstance(quality, NotMeasured):
        return quality
    return QualityJson(
        images=quality.images,
        classes=quality.classes,
        trials=tuple(TrialJson(name=each.name, kept=each.kept, **vars(_score(each.score))) for each in quality.trials),
        channel_ranges=quality.spreads,
        groups=tuple(
            GroupsJson(
                layer=cut.layer,
                sizes=cut.rewrite.sizes if cut.rewrite else (),
                logit_noise=cut.noise,
                cost=cut.cost,
                kept=cut.kept,
            )
            for cut in quality.cuts
        ),
        sensitivity=tuple(
            SensitivityJson(
                tensor=each.tensor,
                only=_score(each.only),
                all_but=each.all_but if isinstance(each.all_but, NotMeasured) else _score(each.all_but),
            )
            for each in quality.sensitivities
        ),
    )


def _score(score: Score) -> ScoreJson:
    return ScoreJson(sqnr_db=score.sqnr_db if math.isfinite(score.sqnr_db) else None, agreement=score.agreement)


def _mixed(mixed: Measurement[Mixed]) -> Measurement[MixedJson]:
    if isinstance(mixed, NotMeasured):
        return mixed
    return MixedJson(
        images=mixed.mixed.images,
        int8=_changes(mixed.int8),
        mixed=_changes(mixed.mixed),
        float_mac_fraction=mixed.float_mac_fraction,
        float_layers=mixed.units,
        simulations=mixed.simulations,
    )


def _changes(changes: Changes) -> ChangesJson:
    return ChangesJson(changed=changes.changed, expected=changes.expected)


def _target(result: TargetResult, card: ModelCard) -> TargetJson:
    read = result.qparams_read
    return TargetJson(
        precision=result.precision,
        # A file that holds other parameters is no result but an error.
        qparams_equal=read if isinstance(read, NotMeasured) else True,
        qparams_read=read,
        presets={name: _file(preset, card) for name, preset in result.presets.items()},
        **vars(_file(result.artifact, card)),
    )


def _file(result: FileResult, card: ModelCard) -> FileJson:
    coverage = result.coverage
    return FileJson(
        artifact=result.file.path.name,
        sha256=result.file.sha256,
        bytes=result.file.bytes,
        executed_by=result.executed_by,
        outputs=_outputs(result) if card.features or card.heads else None,
        accuracy=result.accuracy,
        agreement_with_reference=result.agreement_with_reference,
        int8_mac_fraction=coverage if isinstance(coverage, NotMeasured) else coverage.int8_mac_fraction,
        float_ops=coverage if isinstance(coverage, NotMeasured) else coverage.float_ops,
        logit_sqnr_db=result.logit_sqnr_db,
        latency=result.latency,
        float_latency=result.float_latency,
    )


def _outputs(result: FileResult) -> Measurement[dict[str, OutputJson]]:
    """Of a classifier the logits' own figures say the same."""
    if isinstance(result.outputs, NotMeasured):
        return result.outputs
    return {each.name: OutputJson(sqnr_db=each.sqnr_db, largest_difference=each.largest) for each in result.outputs}
