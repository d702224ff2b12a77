"""How near the float ONNX file is to the torch network, as `check_parity` found it; the record needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rexnet_export.pipeline.graph.float_tracer import LOGITS

TOLERANCE = 1e-4  # of an output's largest value, by which it may differ


@dataclass(frozen=True, kw_only=True)
class OutputParity:
    """The largest difference of a value of one output, and the largest value it is judged by."""

    largest_difference: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How near the file's outputs are to torch's on `n` images; `same_top1` counts images, None without logits."""

    outputs: Mapping[str, OutputParity]
    same_top1: int | None
    n: int

    @property
    def max_abs_difference(self) -> float:
        """The largest of all outputs."""
        return max(output.largest_difference for output in self.outputs.values())

    def to_json(self) -> dict[str, Any]:
        """What `report.json` says of a classifier's logits, or of every output of a backbone."""
        if self.same_top1 is None:
            return {name: {"largest_difference": output.largest_difference} for name, output in self.outputs.items()}
        return {
            "max_abs_difference": self.max_abs_difference,
            "largest_logit": self.outputs[LOGITS].largest,
            "same_top1": self.same_top1,
            "n": self.n,
        }
