"""The part of a `report.json` that the gate goes by; reports of other versions may say more, or less of the rest."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Measurement, Precision, Text

MOST_CLASSES = 2**16

# Baselines and predictions are files of these names.
type Name = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*( [A-Za-z0-9_-]+)?$")]
type PresetName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]


class _Part(JsonRecord):
    model_config = ConfigDict(extra="ignore")


class ModelPart(_Part):
    """The network."""

    name: Name
    labels: Annotated[tuple[str, ...], Field(max_length=MOST_CLASSES)]
    checkpoint_sha256: Sha256


class ReferencePart(_Part):
    """What the float network was executed on."""

    n: AtLeastOne
    images: Text
    images_sha256: Sha256
    executed_by: Text


class StagePart(_Part):
    """A graph of the chain."""

    file: Text
    sha256: Sha256
    executed_by: Text


class FilePart(_Part):
    """An artifact."""

    artifact: Text
    sha256: Sha256
    executed_by: Measurement[Text]


class TargetPart(FilePart):
    """An artifact, and the same network for other processors."""

    precision: Precision
    presets: dict[PresetName, FilePart] = Field(default_factory=dict)


class EnvironmentPart(_Part):
    """The machine."""

    processor: str | None = None


class ReportPart(_Part):
    """All of it."""

    precision: Precision
    model: ModelPart
    reference: ReferencePart
    stages: dict[str, StagePart]
    targets: dict[Name, TargetPart]
    environment: EnvironmentPart
