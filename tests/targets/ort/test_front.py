"""The constant channel appended by a convolution: every integer behind it is what it was, and readers see a Pad."""

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
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact, Precision, stored_file
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.targets.ort.front import eight_at_once
from rexnet_export.targets.ort.target import Ort

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]

ORT = Ort()
WEIGHT = "input.constant_channel.appending.weight.q"
BIAS = "input.constant_channel.appending.bias.q"


def first_layer(width: int, channels: int) -> onnx.ModelProto:
    """What a quantized network does with its image, up to the stem's pixels: [N, H, W, C] -> real [N, C + 1, H, W]."""
    return onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["": 19]>
        front (uint8[batch, 8, {width}, {channels}] image) => (float[batch, {channels + 1}, 8, {width}] input)
        <int64[8] pads = {{0, 0, 0, 0, 0, 0, 0, 1}}, uint8 white = {{255}},
         float scale = {{0.00390625}}, uint8 zero = {{0}}> {{
            appended = Pad <mode = "constant"> (image, pads, white)
            nchw = Transpose <perm = [0, 3, 1, 2]> (appended)
            input = DequantizeLinear (nchw, scale, zero)
        }}
    """)


def run(model: onnx.ModelProto, images: Images, *, optimized: bool) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    found: NDArray[np.float32] = session.run(None, {"image": images})[0]
    return found


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize(("width", "channels"), [(8, 3), (24, 3), (16, 1), (16, 4)])
def test_every_pixel_is_what_it_was(width: int, channels: int, optimized: bool) -> None:  # noqa: FBT001
    model = first_layer(width, channels)
    model.graph.node[0].name = "appended"
    changed = eight_at_once(model)
    assert "Pad" not in {node.op_type for node in changed.graph.node}
    images = np.random.default_rng(0).integers(0, 256, (2, 8, width, channels), dtype=np.uint8)
    images[1, :4], images[1, 4:] = 0, 255
    wanted = run(model, images, optimized=optimized)
    assert wanted[0, channels].min() == 255 / 256
    np.testing.assert_array_equal(run(changed, images, optimized=optimized), wanted)


@pytest.mark.parametrize(("width", "channels"), [(12, 3), (16, 5)])
def test_other_widths_and_images_of_many_channels_keep_their_pad(width: int, channels: int) -> None:
    model = first_layer(width, channels)
    assert eight_at_once(model) is model


@pytest.mark.parametrize("weights", ["uint8", "int8"])
def test_the_logits_are_the_same_digit_for_digit(weights: str, plain_sources: Sources, images: Images) -> None:
    source = plain_sources["int8"]
    assert source.table
    model = insert_qdq(
        onnx.load(source.float_onnx.path), source.table, "uint8", weights="int8" if weights == "int8" else "uint8"
    )
    changed = eight_at_once(model)
    np.testing.assert_array_equal(run(changed, images[:4], optimized=False), run(model, images[:4], optimized=False))


@pytest.fixture(scope="module", params=["x86", "vnni"])
def artifact(request: pytest.FixtureRequest, artifact_of: ArtifactOf) -> Artifact:
    whole = artifact_of("ort", "int8", "plain")
    return replace(whole, file=whole.presets[request.param])


def test_readers_see_the_network_of_the_other_files(artifact: Artifact, artifact_of: ArtifactOf) -> None:
    found, plain = ORT.inspect(artifact), ORT.inspect(artifact_of("ort", "int8", "plain"))
    assert found.coverage == plain.coverage
    assert found.qparams == plain.qparams
    assert found.structure.operators["Reshape"] == 2
    assert found.structure.operators["QLinearConv"] == plain.structure.operators["QLinearConv"]


def require_refused(model: onnx.ModelProto, artifact: Artifact, folder: Path) -> None:
    """The changed model, in the artifact's place, is read as no file of ours."""
    onnx.save(model, folder / "changed.onnx")
    copy = replace(artifact, file=stored_file(folder / "changed.onnx"))
    with pytest.raises(ConversionError, match="changes channels that it is to copy"):
        _ = ORT.inspect(copy).coverage


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        (WEIGHT, (0, 1, 0, 0), 1),
        (WEIGHT, (3, 2, 0, 0), 1),
        (WEIGHT, (30, 23, 0, 0), 2),
        (BIAS, (0,), 1),
        (BIAS, (3,), 254),
    ],
)
def test_a_file_that_changes_pixels_is_refused(
    name: str, place: tuple[int, ...], value: int, artifact_of: ArtifactOf, tmp_path: Path
) -> None:
    whole = artifact_of("ort", "int8", "plain")
    model = onnx.load(whole.presets["vnni"].path)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    assert values[place] != value
    values[place] = value
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    require_refused(model, whole, tmp_path)


def test_channels_appended_in_other_places_are_refused(artifact_of: ArtifactOf, tmp_path: Path) -> None:
    whole = artifact_of("ort", "int8", "plain")
    model = onnx.load(whole.presets["vnni"].path)
    for tensor in model.graph.initializer:
        if tensor.name in {WEIGHT, BIAS}:
            values = numpy_helper.to_array(tensor).copy()
            values[2:4] = values[[3, 2]]  # white, then blue
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    require_refused(model, whole, tmp_path)


def test_a_wider_kernel_that_moves_pixels_is_refused(artifact_of: ArtifactOf, tmp_path: Path) -> None:
    """Its weights have the same sums as those that copy."""
    whole = artifact_of("ort", "int8", "plain")
    model = onnx.load(whole.presets["vnni"].path)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == WEIGHT)
    moved = np.pad(numpy_helper.to_array(tensor), ((0, 0), (0, 0), (0, 0), (1, 0)))
    tensor.CopyFrom(numpy_helper.from_array(moved, WEIGHT))
    node = next(node for node in model.graph.node if WEIGHT in node.input)
    del node.attribute[:], model.graph.value_info[:]
    node.attribute.append(onnx.helper.make_attribute("pads", [0, 0, 0, 1]))
    require_refused(model, whole, tmp_path)
