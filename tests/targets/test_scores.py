"""Logits, probabilities or both, in every form that a TFLite or ONNX file has."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact import self_test
from rexnet_export.pipeline.artifact.target import Source, Target
from rexnet_export.pipeline.core.outputs import network_outputs
from rexnet_export.pipeline.core.records import SCORES, Artifact, Precision, Scores
from rexnet_export.targets.ort.target import Ort
from rexnet_export.targets.tflite.flatbuffer import read_graph
from rexnet_export.targets.tflite.target import Tflite

DECLARED = {
    "tflite": {"logits": ["logits"], "probabilities": ["probabilities"], "both": ["probabilities", "logits"]},
    "ort": {"logits": ["logits"], "probabilities": ["probabilities"], "both": ["logits", "probabilities"]},
}


def files(artifact: Artifact) -> list[Artifact]:
    models = [artifact.file, *artifact.presets.values(), *artifact.companions]
    return [replace(artifact, file=file) for file in models if file.path.suffix != ".config"]


def declared(path: Path) -> list[str]:
    if path.suffix == ".tflite":
        graph = read_graph(path)
        return [graph.name(int(index)) for index in graph.subgraph.outputs]
    return [value.name for value in onnx.load(path).graph.output]


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("target", [Tflite(), Ort()], ids=["tflite", "ort"])
def test_a_file_gives_what_was_asked_for_and_is_judged_by_its_logits(
    target: Target,
    precision: Precision,
    scores: Scores,
    sources: Mapping[Precision, Source],
    images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    source = replace(sources[precision], scores=scores)
    with_logits = target.open(target.convert(replace(source, scores="logits"), tmp_path, "logits")).run(images)
    for artifact in files(target.convert(source, tmp_path, "asked")):
        if "npu" in artifact.file.path.name:  # it gives logits alone
            assert declared(artifact.file.path) == ["logits"]
            continue
        if artifact.file.path.suffix != ".ort":
            assert declared(artifact.file.path) == DECLARED[target.name][scores]
        session, inspection = target.open(artifact), target.inspect(artifact)
        (name,), (found,) = (list(part) for part in zip(*network_outputs(session.outputs(images)).items(), strict=True))
        assert name == ("log_probabilities" if scores == "probabilities" else "logits")
        if not {"x86", "vnni"} & {*artifact.file.path.stem.split("-")}:  # UINT8 kernels round elsewhere
            expected = with_logits - with_logits.mean(1, keepdims=True)
            np.testing.assert_allclose(found - found.mean(1, keepdims=True), expected, atol=1e-4)
        assert "logits" in session.trace(images[:1])
        assert not {"probabilities", "log_probabilities"} & set(session.trace(images[:1]))
        assert inspection.coverage.float_ops == () or precision == "fp32"
        assert inspection.coverage.int8_mac_fraction == (1.0 if precision == "int8" else 0.0)
        tested = self_test.check(session, inspection.metadata, inspection.qparams)
        assert isinstance(tested, self_test.SelfTest)
        assert tested.largest_difference == 0.0
