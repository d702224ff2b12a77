"""Where inside an artifact precision is lost: signal over noise of every tensor against the float network's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy.compare import compare_traces
from rexnet_export.pipeline.core.progress import Progress, counted
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, Preprocess
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.graph.float_tracer import LOGITS, FloatTracer, float_trace
from rexnet_export.pipeline.proof.network import Network
from rexnet_export.pipeline.proof.run_networks import Networks

IMAGES = 4
FLOAT, TRACED = "float", "traced"
OPAQUE = NotMeasured(reason="the runtime shows no tensor but the logits")


@dataclass(frozen=True, kw_only=True)
class TensorNoise:
    """One tensor, by ONNX name: its SQNR over all values of a few images; without noise there is none."""

    tensor: str
    sqnr_db: Measurement[float]


type Layers = Mapping[str, Measurement[tuple[TensorNoise, ...]]]  # by artifact, in the network's order


def tensor_noise(
    float_onnx: Path, networks: Networks, images: Images, preprocess: Preprocess, progress: Progress
) -> Layers:
    """Trace every artifact on the first images beside the float graph that it was made from, one after another."""
    if not networks:
        return {}
    pixels = list(batches(images.source, preprocess, images.indices[:IMAGES], 1))
    with progress.stage("comparing tensors", len(networks) * len(pixels), "images") as bar:
        tracer = float_trace(float_onnx)
        return {name: _noise(tracer, network, counted(iter(pixels), bar)) for name, network in networks.items()}


def _noise(
    tracer: FloatTracer, network: Network, pixels: Iterable[NDArray[np.uint8]]
) -> Measurement[tuple[TensorNoise, ...]]:
    sessions = {FLOAT: tracer, TRACED: network.open()}
    tensors = compare_traces(sessions, [(FLOAT, TRACED)], pixels, {})[FLOAT, TRACED].tensors
    if [tensor.name for tensor in tensors] == [LOGITS]:
        return OPAQUE
    return tuple(TensorNoise(tensor=tensor.name, sqnr_db=tensor.sqnr_db) for tensor in tensors)
