"""What was measured of files and graphs: the records that proof fills and reports show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rexnet_export.pipeline.accuracy.compare import TensorDifference
from rexnet_export.pipeline.accuracy.evaluate import Accuracy
from rexnet_export.pipeline.core.records import (
    AtLeastOne,
    Count,
    Coverage,
    Fraction,
    Measurement,
    NotMeasured,
    Precision,
    StoredFile,
    Text,
)
from rexnet_export.pipeline.proof.latency import Latency, ratio


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """What was measured of one file; `outputs` are compared with the reference's, in the network's order.

    `float_latency` is that of the float file of the same format, which is made for this and not kept.
    """

    file: StoredFile
    executed_by: Measurement[str]
    outputs: Measurement[tuple[TensorDifference, ...]]
    accuracy: Measurement[Accuracy]
    agreement_with_reference: Measurement[float]
    logit_sqnr_db: Measurement[float]
    coverage: Measurement[Coverage]
    latency: Measurement[Latency]
    float_latency: Measurement[Latency]

    @property
    def speed_up(self) -> Measurement[float]:
        """How many times as fast an INT8 file is as the float file of its format, both timed in turns."""
        if isinstance(self.latency, NotMeasured):
            return self.latency
        return (
            self.float_latency
            if isinstance(self.float_latency, NotMeasured)
            else ratio(self.float_latency, self.latency)
        )


@dataclass(frozen=True, kw_only=True)
class ReadBack:
    """Tensors of the table found in a file, and how many of their scales the file holds rounded to float16."""

    tensors: AtLeastOne
    rounded_to_float16: Count


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """One target: its artifact, and its presets for other processors by name."""

    precision: Precision
    artifact: FileResult
    presets: Mapping[str, FileResult]
    qparams_read: Measurement[ReadBack]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The float network in torch, or an earlier export's graph of it in ONNX Runtime, as `executed_by` says.

    `images` is what all agreement was measured on, by name and by content.
    """

    executed_by: Text
    images: Text
    images_sha256: Text
    n: AtLeastOne
    top1: Measurement[Fraction]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """An ONNX graph on the way from the float network to the artifacts, executed on `n` of the images that they are."""

    file: StoredFile
    executed_by: str
    n: AtLeastOne
    top1: Measurement[float]
    agreement_with_reference: float
