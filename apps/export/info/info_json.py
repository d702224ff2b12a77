"""What `rexnet-export info --json` prints (`info.schema.json`)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Count, Fraction, Measurement, Positive, Preprocess, Text

type Kind = Literal["checkpoint", "artifact"]


class NetworkJson(JsonRecord):
    """The network as a checkpoint's tensors say; `parameters` counts its numbers."""

    variant: Text
    width: Positive
    blocks: AtLeastOne
    squeeze_excitation: bool
    parameters: AtLeastOne


class FileJson(JsonRecord):
    """A checkpoint or an artifact."""

    file: Text
    kind: Kind
    format: Text
    """The target of an artifact; whose names a checkpoint's tensors have."""
    bytes: AtLeastOne
    sha256: Sha256
    model: Text
    network: Measurement[NetworkJson]
    precision: Measurement[Text]
    classes: Count
    labels: Measurement[tuple[str, ...]]
    outputs: tuple[Text, ...]
    """What an artifact declares, by its own names; what leaves a checkpoint's network."""
    preprocess: Measurement[Preprocess]
    preprocess_source: dict[str, Text]
    """By field of `preprocess`, who stated it; fields of a checkpoint that nobody states have their usual value."""
    made_from: dict[str, Text]
    """SHA-256 of the checkpoint, the float graph and the quantization table, and the tool."""
    int8_mac_fraction: Measurement[Fraction]
    float_ops: Measurement[tuple[Text, ...]]
    notes: tuple[Text, ...]


class BundledFileJson(JsonRecord):
    """An artifact in a bundle, as its plan says."""

    file: Text
    runtime: Text
    precision: Text
    bytes: AtLeastOne
    sha256: Sha256


class BundleJson(JsonRecord):
    """A bundle of rexnet-bench, every file in it compared with its digest."""

    bundle_id: Sha256
    created_by: Text
    images: Text
    n: AtLeastOne
    files: tuple[BundledFileJson, ...]


class InfoJson(JsonRecord):
    """What a file is, by its own words and structure; `files` of an export folder are its artifacts."""

    model_config = ConfigDict(title="What `rexnet-export info --json` prints")

    schema_version: Literal[1] = 1
    path: Text
    files: tuple[FileJson, ...]
    unread: dict[str, Text]
    """Artifacts of a folder that nothing installed here reads, and what would."""
    broken: dict[str, Text]
    """Artifacts of a folder that are not what was written, and how; the exit code is 12 then."""
    bundle: BundleJson | None
