"""What the pipeline asks of a deployment target; `targets/` holds one implementation per file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.outputs import declared
from rexnet_export.pipeline.core.records import Artifact, Coverage, ModelCard, Precision, Reading, Scores, StoredFile
from rexnet_export.quantization.table.table import QuantTable

NAMED = 3
READING = Reading()


@dataclass(frozen=True, kw_only=True)
class Source:
    """All a target may convert from: the checkpoint, its float ONNX, and for INT8 the table and QDQ ONNX.

    There is no checkpoint where an earlier export's graphs are converted. `reading` says how it was read. `golden`:
    uint8 [n, 32, 32, 3] thumbnails every file carries, with its own logits, to test itself on.
    """

    card: ModelCard
    precision: Precision
    checkpoint: StoredFile | None
    float_onnx: StoredFile
    table: QuantTable | None = None
    table_sha256: str | None = None
    qdq_onnx: StoredFile | None = None
    golden: NDArray[np.uint8] | None = None
    reading: Reading = READING
    scores: Scores = "both"

    @property
    def outputs(self) -> tuple[str, ...]:
        """What a file is to declare: what leaves the network, with a classifier's scores where the logits are."""
        return declared(self.card.outputs, self.scores) if self.card.labels else self.card.outputs

    @property
    def float_tensors(self) -> tuple[str, ...]:
        """What the table of an INT8 file leaves in float."""
        return self.table.float_tensors if self.table is not None and self.precision == "int8" else ()


def described(source: Source) -> dict[str, str]:
    """What a file made from `source` says of itself: its card, what it was made from, and what of it is in float."""
    digests = {"float_onnx_sha256": source.float_onnx.sha256}
    if source.precision == "int8" and source.table_sha256:
        digests["table_sha256"] = source.table_sha256
    return describe(source.card, precision=source.precision, float_tensors=source.float_tensors, **digests)


class Session(Protocol):
    """An artifact loaded into a runtime."""

    @property
    def executed_by(self) -> str:
        """The runtime and its version, as the report prints it; what stands behind a comma changes no answer."""

    @property
    def timed(self) -> bool:
        """Whether its speed is a runtime's own; that of a reference interpreter says nothing."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Every activation that is computed here, by ONNX tensor name: real numbers, [N, C, H, W] or [N, C], each
        after what it is computed from, `logits` as `run` gives them. A runtime that shows no others gives the logits
        alone. All tensors of an image take about 100 MB at 224 px: ask for one image at a time.
        """


def is_emulated(session: Session) -> bool:
    """Whether other kernels than those it is for run a file, at many times the cost; a session need not say so."""
    return bool(getattr(session, "emulated", False))


class OutputSession(Session, Protocol):
    """A session whose outputs can be had one by one: every file that is opened in this process."""

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] RGB -> what the file declares as outputs, by ONNX tensor name: [N, classes] or
        [N, C, H, W], whatever the format's own layout. `network_outputs` makes of them what the network gives."""


def require_int8(artifact: Artifact, coverage: Coverage, float_tensors: Collection[str]) -> None:
    """Refuse to call a file INT8 that multiplies in anything else, but for layers whose weights are to be float."""
    if artifact.precision != "int8":
        return
    others = [weights for weights in coverage.float_layers if weights not in float_tensors]
    allowed = coverage.float_layers and not others
    if not 0 < coverage.int8_macs <= coverage.total_macs or not (allowed or coverage.int8_macs == coverage.total_macs):
        left = ", ".join([*others, *coverage.float_ops][:NAMED]) or "nothing is multiplied at all"
        raise ConversionError(
            f"{artifact.file.path.name} is called INT8, but {coverage.total_macs - coverage.int8_macs} of its "
            f"{coverage.total_macs} multiply-accumulates are float ({left}); report this with the checkpoint"
        )


class Target(Protocol):
    """One deployment target. Toolchain imports live inside the methods."""

    @property
    def name(self) -> str:
        """The word after `--target`."""

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What it can be converted to."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How names of its files end."""

    def require(self) -> None:
        """Raise `TargetUnavailable`, with the command that mends it, when the toolchain is missing."""

    def convert(self, source: Source, folder: Path, stem: str) -> Artifact:
        """Write `folder/stem.*`; `folder` is private to this call and is moved into place by the caller."""

    def open(self, artifact: Artifact, *, threads: int | None = None) -> OutputSession:
        """Load the file for execution; raises `TargetUnavailable` where nothing here can execute it.

        `threads` that work on one image: 1 unless it says more, except in torch, whose number is the whole process's
        and stays as it is. Core ML chooses for itself.
        """

    def inspect(self, artifact: Artifact) -> Inspection:
        """What the file on disk really holds."""
