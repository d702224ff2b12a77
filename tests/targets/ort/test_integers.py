"""The file for VNNI in operators on integers: the same logits, of ONNX where it can be, exact where that is asked."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.records import Artifact, Precision
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.targets.ort.integers import in_integers
from rexnet_export.targets.ort.target import Ort

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]

ORT = Ort()


@pytest.fixture(scope="module")
def artifact(artifact_of: ArtifactOf) -> Artifact:
    whole = artifact_of("ort", "int8", "plain")
    return replace(whole, file=whole.presets["vnni"])


@pytest.mark.parametrize("form", ["plain", "grouped"])
def test_the_logits_are_the_same_digit_for_digit(form: str, images: Images, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(f"{form}_sources")["int8"]
    model = insert_qdq(onnx.load(source.float_onnx.path), source.table, "uint8", weights="int8")
    changed = in_integers(model, "the graph")
    found, wanted = (
        onnxruntime.InferenceSession(each.SerializeToString()).run(["logits"], {"image": images})[0]
        for each in (changed, model)
    )
    np.testing.assert_array_equal(found, wanted)
    assert in_integers(model, "the graph") == changed


def test_convolutions_are_of_onnx_and_have_one_zero_point_of_their_own(artifact: Artifact) -> None:
    model = onnx.load(artifact.file.path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "QLinearConv"]
    assert nodes
    assert {node.domain for node in nodes} == {""}
    assert set(Counter(node.input[5] for node in nodes).values()) == {1}
    assert {constants[node.input[5]].shape for node in nodes} == {()}
    assert {"Conv", "QuantizeLinear"}.isdisjoint(node.op_type for node in model.graph.node)
    assert {known.domain for known in model.opset_import} == {"", "com.microsoft"}


def test_other_programs_can_ask_for_exact_sums(artifact: Artifact, images: Images, tmp_path: Path) -> None:
    """What its description says: the option makes every weight unsigned, in each operator that would lose sums."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.optimized_model_filepath = str(tmp_path / "exact.onnx")
    session = onnxruntime.InferenceSession(artifact.file.path, options)
    np.testing.assert_array_equal(session.run(["logits"], {"image": images})[0], ORT.open(artifact).run(images))
    model = onnx.load(tmp_path / "exact.onnx")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = [constants[node.input[3]] for node in model.graph.node if node.op_type in {"QLinearConv", "QGemm"}]
    assert len(weights) > 10
    assert all(values.dtype == np.uint8 or np.abs(values).max() <= 64 for values in weights)


def test_a_network_with_float_layers_stays_as_it_is(mixed_sources: Sources, tmp_path: Path) -> None:
    artifact = ORT.convert(mixed_sources["int8"], tmp_path, "islands")
    operators = {node.op_type for node in onnx.load(artifact.presets["vnni"].path).graph.node}
    assert "QLinearConv" not in operators
