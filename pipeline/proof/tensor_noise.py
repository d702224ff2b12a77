"""Where inside an artifact precision is lost: signal over noise of every tensor against the float network's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rexnet_export.pipeline.accuracy.compare import compare_traces
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.core.progress import Progress, counted
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.graph.float_tracer import LOGITS, float_trace

IMAGES = 4
FLOAT = "float"
OPAQUE = NotMeasured(reason="the runtime shows no tensor but the logits")


@dataclass(frozen=True, kw_only=True)
class TensorNoise:
    """One tensor, by ONNX name: its SQNR over all values of a few images; without noise there is none."""

    tensor: str
    sqnr_db: Measurement[float]


type Layers = Mapping[str, Measurement[tuple[TensorNoise, ...]]]  # by artifact, in the network's order


def tensor_noise(
    float_onnx: Path, sessions: Mapping[str, Session], images: Images, preprocess: Preprocess, progress: Progress
) -> Layers:
    """Trace every artifact on the first images beside the float graph that it was made from."""
    if not sessions:
        return {}
    chosen, pairs = images.indices[:IMAGES], [(FLOAT, name) for name in sessions]
    with progress.stage("comparing tensors", len(chosen), "images") as bar:
        pixels = counted(batches(images.source, preprocess, chosen, 1), bar)
        found = compare_traces({FLOAT: float_trace(float_onnx), **sessions}, pairs, pixels, {})
    return {
        name: OPAQUE
        if [tensor.name for tensor in traces.tensors] == [LOGITS]
        else tuple(TensorNoise(tensor=tensor.name, sqnr_db=tensor.sqnr_db) for tensor in traces.tensors)
        for (_, name), traces in found.items()
    }
