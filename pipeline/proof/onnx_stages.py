"""The ONNX graphs between the float network and the artifacts, run to see where in the chain accuracy is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.accuracy import evaluate
from rexnet_export.pipeline.accuracy.evaluate import Logits
from rexnet_export.pipeline.core.outputs import answer
from rexnet_export.pipeline.core.records import NotMeasured, StoredFile
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.graph.onnx_outputs import onnx_outputs
from rexnet_export.pipeline.machine.onnx_session import images_at_once
from rexnet_export.pipeline.proof.network import Network
from rexnet_export.pipeline.proof.results import StageResult
from rexnet_export.pipeline.proof.run_networks import REFERENCE, Run
from rexnet_export.quantization.onnx.simulate import threads

type StageName = Literal["float", "equalized", "quantized"]

UNLABELLED = NotMeasured(reason="the evaluation images have no labels; give --eval-data")


@dataclass(frozen=True, kw_only=True)
class GraphSession:
    """An ONNX graph in ONNX Runtime at its defaults; nobody deploys it, so its speed is not measured."""

    runner: Callable[[NDArray[np.uint8]], dict[str, Logits]]
    executed_by: str
    timed: bool = False

    def run(self, images: NDArray[np.uint8]) -> Logits:
        """uint8 [N, S, S, 3] -> float32 logits [N, classes]."""
        return answer(self.outputs(images))

    def outputs(self, images: NDArray[np.uint8]) -> dict[str, Logits]:
        """The graph's outputs, some images at once, and some of those side by side."""
        count = images_at_once(*images.shape[1:3])
        parts = [images[start : start + count] for start in range(0, len(images), count)]
        with threads() as workers:
            found = list(workers.map(self.runner, parts))
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def trace(self, images: NDArray[np.uint8]) -> dict[str, Logits]:
        """The outputs."""
        return self.outputs(images)


def chain(float_onnx: StoredFile, rewritten: StoredFile | None, qdq: StoredFile | None) -> dict[StageName, StoredFile]:
    """The graphs there are, in the order they were made; a graph that is not rewritten is no stage of its own."""
    changed = rewritten if rewritten is not None and rewritten.sha256 != float_onnx.sha256 else None
    files: dict[StageName, StoredFile | None] = {"float": float_onnx, "equalized": changed, "quantized": qdq}
    return {name: file for name, file in files.items() if file is not None}


def predictions_key(name: str) -> str:
    """The name of a graph's logits in `predictions.npz`."""
    return f"onnx-{name}"


def stages(graphs: Mapping[StageName, StoredFile]) -> dict[str, Network]:
    """The graphs by the key of their logits; none is opened yet."""
    executed_by = f"ONNX Runtime {version('onnxruntime')}"
    return {
        predictions_key(name): Network(open=partial(_opened, file.path, executed_by), executed_by=executed_by)
        for name, file in graphs.items()
    }


def _opened(path: Path, executed_by: str) -> GraphSession:
    return GraphSession(runner=onnx_outputs(path), executed_by=executed_by)


def stage_results(
    graphs: Mapping[StageName, StoredFile], runs: Mapping[str, Run], images: Images
) -> dict[str, StageResult]:
    """What each graph gave on the evaluation images that it was asked about."""
    return {name: _stage_result(file, runs[predictions_key(name)], runs, images) for name, file in graphs.items()}


def _stage_result(file: StoredFile, run: Run, runs: Mapping[str, Run], images: Images) -> StageResult:
    labels = images.labels
    return StageResult(
        file=file,
        executed_by=f"ONNX Runtime {version('onnxruntime')}",
        n=len(run.answers),
        top1=UNLABELLED if labels is None else evaluate.top1(run.answers, run.at(labels)),
        agreement_with_reference=evaluate.agreement(run.answers, run.at(runs[REFERENCE].answers)),
    )
