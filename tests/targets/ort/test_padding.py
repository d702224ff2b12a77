"""Channels of zeros: no logit changes by them, no reader sees them, and what is no zero is seen."""

import json
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

from rexnet_export.pipeline.artifact.fingerprints import damaged
from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, Precision, stored_file
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.targets.ort.padding import own_channels, padded
from rexnet_export.targets.ort.target import Ort

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]

ORT = Ort()


def quantized(sources: Sources) -> onnx.ModelProto:
    table = sources["int8"].table
    assert table
    return insert_qdq(onnx.load(sources["int8"].float_onnx.path), table, "uint8", weights="int8")


def node_by_node(model: onnx.ModelProto, images: Images) -> NDArray[np.float32]:
    """The logits as the graph says them, without ONNX Runtime's fusions."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in images])


def weights(model: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], int]]:
    """Of every convolution by its name: the weights' shape and the groups."""
    shapes = {tensor.name.removesuffix(".q"): tuple(tensor.dims) for tensor in model.graph.initializer}
    return {
        node.name: (shapes[node.input[1].removesuffix(".dq")], attribute.i)
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "group"
    }


@pytest.mark.parametrize("form", ["plain", "grouped"])
def test_the_logits_are_the_same_digit_for_digit(form: str, images: Images, request: pytest.FixtureRequest) -> None:
    model = quantized(request.getfixturevalue(f"{form}_sources"))
    every = np.concatenate([images[:4], [np.zeros_like(images[0])], [np.full_like(images[0], 255)]])
    changed, channels = padded(model)
    assert channels
    np.testing.assert_array_equal(node_by_node(changed, every), node_by_node(model, every))


def test_channels_are_what_the_kernels_want(plain_sources: Sources) -> None:
    model = quantized(plain_sources)
    before, after = weights(model), weights(padded(model)[0])
    assert before != after
    for name, ((rows, columns, *_), groups) in after.items():
        own, own_groups = before[name]
        assert rows - own[0] < 16
        if own_groups > 1:
            assert (rows % 16, groups, columns) == (0, rows, 1)
        else:
            assert (rows % 4, columns % 4, groups) == (0, 0, 1)
    assert padded(padded(model)[0])[1] == {}


def test_parts_that_are_joined_keep_their_channels(grouped_sources: Sources) -> None:
    model = quantized(grouped_sources)
    before, after = weights(model), weights(padded(model)[0])
    shapes = {value.name: value.type.tensor_type.shape.dim for value in padded(model)[0].graph.value_info}
    joins = [node for node in model.graph.node if node.op_type == "Concat"]
    assert joins
    for node in joins:
        parts = sum(shapes[name][1].dim_value for name in node.input)
        assert shapes[node.output[0]][1].dim_value == parts
    kept = [name for name, (shape, _) in after.items() if shape[0] == before[name][0][0]]
    assert any(name.startswith("stem") for name in kept)


@pytest.fixture(scope="module")
def artifact(artifact_of: ArtifactOf) -> Artifact:
    whole = artifact_of("ort", "int8", "plain")
    return replace(whole, file=whole.presets["vnni"])


def test_what_is_read_of_the_file_is_the_network_without_them(artifact: Artifact, artifact_of: ArtifactOf) -> None:
    stored = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(artifact.file.path).graph.initializer}
    found, plain = ORT.inspect(artifact), ORT.inspect(artifact_of("ort", "int8", "plain"))
    assert found.qparams == plain.qparams
    assert found.coverage == plain.coverage
    assert found.parameters.keys() == plain.parameters.keys()
    for name, values in plain.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], values, err_msg=name)
    assert any(stored[f"{name}.q"] != values.shape for name, values in found.parameters.items())


def changed(artifact: Artifact, name: str, place: tuple[int, ...], folder: Path) -> Artifact:
    """A copy with one more in one place of a constant."""
    model = onnx.load(artifact.file.path)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values[place] += 1
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, folder / "changed.onnx")
    return replace(artifact, file=stored_file(folder / "changed.onnx"))


@pytest.mark.parametrize(
    ("part", "place"),
    [("weight.q", (-1, 0, 0, 0)), ("weight.q.zero_point", ()), ("weight.q.scale", (-1,)), ("bias.q", (-1,))],
)
def test_anything_but_zeros_there_is_named(
    part: str, place: tuple[int, ...], artifact: Artifact, tmp_path: Path
) -> None:
    own = json.loads(ORT.inspect(artifact).metadata["padded"])
    layer = next(name for name in own if name.endswith(".project"))
    copy = changed(artifact, f"{layer}.{part}", place, tmp_path)
    inspection = ORT.inspect(copy)
    named = damaged(inspection.metadata, inspection.qparams, inspection.parameters)
    assert f"{layer}.{part.partition('.')[0]}" in named


def test_a_weight_that_reads_a_channel_of_zeros_is_named(artifact: Artifact, tmp_path: Path) -> None:
    own = json.loads(ORT.inspect(artifact).metadata["padded"])
    number = next(name for name in own if name.endswith(".project")).split(".")[1]
    copy = changed(artifact, f"features.{number}.project.weight.q", (0, -1, 0, 0), tmp_path)
    inspection = ORT.inspect(copy)
    named = damaged(inspection.metadata, inspection.qparams, inspection.parameters)
    assert named == [f"features.{number}.project.weight"]


def test_a_network_with_float_layers_is_not_padded(mixed_sources: Sources, tmp_path: Path) -> None:
    artifact = ORT.convert(mixed_sources["int8"], tmp_path, "islands")
    assert "padded" not in ORT.inspect(replace(artifact, file=artifact.presets["vnni"])).metadata


@pytest.mark.parametrize("text", ["[]", "{", '{"stem":0}', '{"stem":"4"}', '{"stem":true}', '{"stem":1.5}'])
def test_other_metadata_is_refused(text: str) -> None:
    with pytest.raises(ConversionError):
        own_channels({"padded": text})


def test_most_files_have_none() -> None:
    assert own_channels({}) == {}
    assert own_channels({"padded": '{"stem":30}'}) == {"stem": 30}
