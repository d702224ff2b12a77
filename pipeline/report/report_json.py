"""`report.json` (`report.schema.json`): the record of everything that an export made and measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy
from rexnet_export.pipeline.accuracy.evaluate import Accuracy
from rexnet_export.pipeline.accuracy.flips import Flips
from rexnet_export.pipeline.accuracy.image_noise import ImageNoise
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import (
    AtLeastOne,
    Count,
    Feature,
    Fraction,
    HeadOutput,
    Measurement,
    NotNegative,
    Precision,
    Preprocess,
    Text,
)
from rexnet_export.pipeline.machine.environment import Environment
from rexnet_export.pipeline.proof.latency import Latency
from rexnet_export.pipeline.proof.results import ReadBack, Reference
from rexnet_export.pipeline.proof.tensor_noise import TensorNoise
from rexnet_export.quantization.calibration.channel_spread import Spread
from rexnet_export.quantization.search.mixed_precision import FloatUnit

type TargetName = Annotated[str, Field(pattern="^[a-z0-9]+$")]
type StageName = Annotated[str, Field(pattern="^(float|equalized|quantized)$")]
type PreprocessField = Literal["size", "crop_mode", "crop_ratio", "interpolation", "mean", "std"]
type Moment = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00$")]


def _absent(value: object) -> bool:
    return value is None


class ModelJson(JsonRecord):
    """The network."""

    name: Text
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    preprocess: Preprocess
    checkpoint_sha256: Sha256
    preprocess_source: dict[PreprocessField, Text]
    """By field of `preprocess`, who stated it: flags, a source of the checkpoint's, or assumed."""
    heads: Annotated[tuple[HeadOutput, ...] | None, Field(exclude_if=_absent)] = None
    """Outputs beside the logits."""


class RegressionJson(ModelJson):
    """A network that gives numbers for an image, and has no labels."""

    labels: tuple[()]
    numbers: AtLeastOne


class BackboneJson(ModelJson):
    """A network without its head: it has outputs, the finest first, and no labels."""

    labels: tuple[()]
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]


class TriedJson(JsonRecord):
    """Another common preprocessing on the same images in the float network: McNemar's exact test."""

    changes: dict[str, Any]
    """The fields of `preprocess` that differ."""
    n: AtLeastOne
    top1: Fraction
    present_top1: Fraction
    gained: Count
    lost: Count
    p: Fraction


class PreprocessCheckJson(JsonRecord):
    """Every preprocessing that was tried."""

    tried: tuple[TriedJson, ...]
    better: str | None
    """The flags of the one that is clearly better."""


class LogitParityJson(JsonRecord):
    """The float ONNX graph against torch, in units of the logits."""

    max_abs_difference: NotNegative
    largest_logit: NotNegative
    same_top1: Count
    n: AtLeastOne


class OutputParityJson(JsonRecord):
    """The same of one output of a backbone."""

    largest_difference: NotNegative


class StageJson(JsonRecord):
    """A graph on the way to the artifacts, run on `n` images; the file's name is that in the output folder."""

    file: Text
    sha256: Sha256
    executed_by: Text
    n: AtLeastOne
    top1: Measurement[Fraction]
    agreement_with_reference: Fraction


class ScoreJson(JsonRecord):
    """Logits against the float network's; decibels are null where nothing differs."""

    sqnr_db: float | None
    agreement: Fraction


class _NamedJson(JsonRecord):
    name: Text


class TrialJson(ScoreJson, _NamedJson):
    """What was tried, and whether it was kept."""

    kept: bool


class GroupsJson(JsonRecord):
    """What a scale for each group of channels would do; without sizes, the layer as it is."""

    layer: Text
    sizes: tuple[AtLeastOne, ...]
    logit_noise: NotNegative
    cost: NotNegative
    kept: bool


class SensitivityJson(JsonRecord):
    """What a tensor does to the logits: with only it in INT8, and with all in INT8 but it."""

    tensor: Text
    only: ScoreJson
    all_but: Measurement[ScoreJson]


class QualityJson(JsonRecord):
    """How INT8 was searched for, judged by `images` that no range comes from."""

    images: AtLeastOne
    classes: AtLeastOne
    """That the float network sees in these images."""
    trials: tuple[TrialJson, ...]
    channel_ranges: tuple[Spread, ...]
    """Of tensors that were evened out: channel ranges over the tensor's, at 0, 10, 50, 90 and 100 % of channels."""
    groups: tuple[GroupsJson, ...]
    sensitivity: tuple[SensitivityJson, ...]


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """Where the INT8 ranges come from, and what is doubtful about the images."""

    source: Text
    images: AtLeastOne
    images_sha256: Sha256
    statistic: Text
    seed: Count
    warnings: tuple[Text, ...] = ()


class ChangesJson(JsonRecord):
    """Images whose top-1 class is not the float network's, and the share to be expected of their margins and noise."""

    changed: Count
    expected: Fraction


class MixedJson(JsonRecord):
    """What --max-drop left in float, judged by `images` that no range comes from."""

    images: AtLeastOne
    int8: ChangesJson
    """With every layer in INT8."""
    mixed: ChangesJson
    """With these layers in float."""
    float_mac_fraction: Fraction | Literal[0]
    float_layers: tuple[FloatUnit, ...]
    simulations: AtLeastOne


class OutputJson(JsonRecord):
    """One output of a backbone beside the reference's."""

    sqnr_db: Measurement[float]
    largest_difference: NotNegative


class FileJson(JsonRecord):
    """One artifact; its name is that in the output folder."""

    artifact: Text
    sha256: Sha256
    bytes: AtLeastOne
    executed_by: Measurement[Text]
    outputs: Annotated[Measurement[dict[str, OutputJson]] | None, Field(exclude_if=_absent)] = None
    accuracy: Measurement[Accuracy]
    agreement_with_reference: Measurement[Fraction]
    int8_mac_fraction: Measurement[Fraction]
    float_ops: Measurement[tuple[str, ...]]
    """Float operators left between input and logits, as name (type)."""
    logit_sqnr_db: Measurement[float]
    latency: Measurement[Latency]
    float_latency: Measurement[Latency]
    """Of the float file of the same format, timed in the same rounds; that file is not kept."""


class _PreciseJson(JsonRecord):
    precision: Precision


class TargetJson(FileJson, _PreciseJson):
    """What one target made."""

    qparams_equal: Measurement[bool]
    """Whether the file, read back, holds the quantization table."""
    qparams_read: Measurement[ReadBack]
    presets: dict[str, FileJson]
    """The same network for other processors."""


class ReportJson(JsonRecord):
    """What one export made and measured.

    Drops and fractions are of 1 (0.005 is half a point); what was not measured says why.
    """

    model_config = ConfigDict(title="Export report (report.json)")

    schema_version: Literal[1] = 1
    created: Moment
    """UTC, when all measurements were done."""
    notices: tuple[Text, ...]
    """What a person has to know before any figure: what was assumed, and what looks wrong."""
    model: ModelJson | RegressionJson | BackboneJson
    preprocess_check: Measurement[PreprocessCheckJson]
    precision: Precision
    """What was asked for; a target may say otherwise of itself."""
    reference: Reference
    """The float network, and the images that everything was measured on."""
    onnx_parity: LogitParityJson | dict[str, OutputParityJson]
    stages: dict[StageName, StageJson]
    """The ONNX graphs between the float network and the artifacts, in order."""
    calibration: Measurement[CalibrationResult]
    quantization: Measurement[QualityJson]
    mixed_precision: Measurement[MixedJson]
    targets: Annotated[dict[TargetName, TargetJson], Field(min_length=1)]
    layers: dict[str, Measurement[tuple[TensorNoise, ...]]]
    """By target: SQNR of every tensor against the float graph's, on a few images, in the network's order."""
    flips: Measurement[Flips]
    """Images for which an artifact chooses another class than the reference; the listed flip in most files."""
    classes: Measurement[tuple[ClassAccuracy, ...]]
    """Of every class that has images: top-1 of the reference and each file, and the SQNR of the file's logits."""
    image_noise: dict[str, Measurement[ImageNoise]]
    """By file: SQNR of single images' logits, and those far below the median."""
    seconds: Measurement[dict[str, NotNegative]]
    environment: Environment
