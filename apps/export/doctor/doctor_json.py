"""What `rexnet-export doctor --json` prints (`doctor.schema.json`)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from rexnet_export.pipeline.core.json_record import JsonRecord
from rexnet_export.pipeline.core.records import AtLeastOne, Measurement, NotMeasured, NotNegative, Text
from rexnet_export.pipeline.machine.environment import Environment


class TargetJson(JsonRecord):
    """What became of a small network."""

    converted_s: Measurement[NotNegative]
    """Seconds from the start of a process to the finished file, imports included."""
    executed_by: Measurement[Text]
    timed: Measurement[bool]
    """Whether the speed of what executes it here is a runtime's own."""

    @property
    def works(self) -> bool:
        """Whether an export to it can be proven here."""
        return not isinstance(self.executed_by, NotMeasured)


class ExtraJson(JsonRecord):
    """An optional part."""

    purpose: Text
    missing: tuple[Text, ...]
    """Modules that are not installed."""
    command: Text


class DoctorJson(JsonRecord):
    """What works on this machine."""

    model_config = ConfigDict(title="What `rexnet-export doctor --json` prints")

    schema_version: Literal[1] = 1
    works: bool
    """Whether every target that was tried does."""
    targets: dict[str, TargetJson]
    plugins_that_fail: tuple[Text, ...]
    extras: dict[str, ExtraJson]
    npu_compilers: Measurement[Text]
    """The packages that `rexnet-export npu` compiles with."""
    usable_cores: AtLeastOne
    environment: Environment
