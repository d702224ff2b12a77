"""What `rexnet-export verify --json` prints (`verify.schema.json`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from rexnet_export.pipeline.accuracy.compare import LogitComparison
from rexnet_export.pipeline.artifact.self_test import SelfTest
from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import AtLeastOne, Fraction, Measurement, NotMeasured, Text
from rexnet_export.pipeline.machine.environment import Environment, environment
from rexnet_export.pipeline.proof.examine import Finding
from rexnet_export.pipeline.proof.verify import TensorFinding, Verification


class FileJson(JsonRecord):
    """One file by itself."""

    name: Text
    sha256: Sha256
    bytes: AtLeastOne
    problems: tuple[Text, ...]
    changes: tuple[Text, ...]
    """What another tool has made of its weights since it was written."""
    precision: Measurement[Text]
    executed_by: Measurement[Text]
    self_test: Measurement[SelfTest]
    """Its logits now on the golden images inside it, against those it gave when it was written."""
    holds_table: Measurement[bool]
    """Whether every scale and zero point is the one in the qparams.json beside it."""
    vouched_by: Measurement[Text]
    """What besides the file itself knows its digest: `manifest.json`, or `--expect`."""
    int8_mac_fraction: Measurement[Fraction]
    float_ops: Measurement[tuple[Text, ...]]


class VerificationJson(JsonRecord):
    """Finished files proven again, alone and pair by pair.

    Fractions are of 1; differences in steps are in quantization steps; what was not measured says why.
    """

    model_config = ConfigDict(title="What `rexnet-export verify --json` prints")

    schema_version: Literal[1] = 1
    proven: bool
    """Whether every file is one that something else vouches for, was executed, and has no problem."""
    files: Annotated[tuple[FileJson, ...], Field(min_length=1)]
    images: Measurement[Text]
    logits: Measurement[LogitComparison]
    tensors: Measurement[tuple[TensorFinding, ...]]
    environment: Environment


def verification_json(found: Verification) -> VerificationJson:
    """All that was found."""
    return VerificationJson(
        proven=found.proven,
        files=tuple(_file(finding) for finding in found.findings),
        images=found.images,
        logits=found.logits,
        tensors=found.tensors,
        environment=environment(),
    )


def _file(finding: Finding) -> FileJson:
    coverage = finding.coverage
    return FileJson(
        name=finding.name,
        sha256=finding.file.sha256,
        bytes=finding.file.bytes,
        problems=finding.problems,
        changes=finding.changes,
        precision=finding.precision,
        executed_by=finding.executed_by,
        self_test=finding.self_test,
        holds_table=finding.holds_table,
        vouched_by=finding.vouched_by,
        int8_mac_fraction=coverage if isinstance(coverage, NotMeasured) else coverage.int8_mac_fraction,
        float_ops=coverage if isinstance(coverage, NotMeasured) else coverage.float_ops,
    )
