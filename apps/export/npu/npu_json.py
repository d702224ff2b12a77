"""What `rexnet-export npu` writes (`npu.json`, `npu.schema.json`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from rexnet_export.pipeline.artifact.manifest import require_member
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.files import NPU_FILE
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Count, Measurement, NotMeasured, NotNegative, Text
from rexnet_export.pipeline.core.untrusted import read_untrusted
from rexnet_export.pipeline.export.publish import Record
from rexnet_export.pipeline.machine.environment import Environment

MOST_BYTES = 2**20
type Member = Annotated[Text, AfterValidator(require_member)]


class SourceJson(JsonRecord):
    """The portable file."""

    file: Text
    sha256: Sha256
    bytes: AtLeastOne
    operators: dict[str, AtLeastOne]
    """How many of each kind."""


class ParametersJson(JsonRecord):
    """Tensors that the vendor's compiler was given with the file's own scale and zero point, and integers."""

    activations: Count
    weights: Count
    integers: Measurement[Count]
    """Weights and biases whose every integer was given as the file has it."""
    not_seen: tuple[Text, ...]
    """INT8 tensors of the file, and biases, that the graph handed over does not name."""


class ChipJson(JsonRecord):
    """A file compiled for one chip."""

    vendor: Text
    chip: Text
    file: Member
    sha256: Sha256
    bytes: AtLeastOne
    whole: bool
    """Whether all operators are in one partition."""
    operators: AtLeastOne
    operators_on_npu: Count
    partitions: Count
    fallback: dict[str, AtLeastOne]
    """Operators that the processor runs, by kind."""
    parameters: Measurement[ParametersJson]
    executed_by: Measurement[Text]
    seconds: NotNegative
    """To compile it, on this machine as loaded as it was."""
    sdk: Text
    """The vendor's compiler, as it names its version."""


class NpuJson(JsonRecord):
    """Files compiled ahead of time, and what could not be compiled."""

    model_config = ConfigDict(title="Files compiled for NPUs (npu.json)")

    schema_version: Literal[1] = 1
    source: SourceJson
    chips: Annotated[tuple[ChipJson, ...], Field(min_length=1)]
    not_compiled: dict[str, Text]
    """By chip, the reason."""
    ai_pack: Measurement[Member]
    """The folder for Google Play's delivery by device."""
    packages: dict[str, Text]
    """What the compilers came in."""
    environment: Environment


def _names(folder: Path) -> set[str]:
    """What a run has written there."""
    try:
        record = NpuJson.parse(read_untrusted(folder / NPU_FILE, MOST_BYTES))
    except (OSError, ConversionError):
        return set()
    pack = set() if isinstance(record.ai_pack, NotMeasured) else {record.ai_pack}
    return {NPU_FILE, *pack, *(one.file for one in record.chips)}


COMPILED = Record(file=NPU_FILE, names=_names)
