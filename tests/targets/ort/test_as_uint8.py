"""A file for ARM on x86: most images of a batch as UINT8, with the file's own logits."""

import platform
from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from shared import ArtifactOf

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Artifact
from rexnet_export.pipeline.machine.onnx_session import open_session, session_options
from rexnet_export.targets.ort import session
from rexnet_export.targets.ort.as_uint8 import unsigned_activations
from rexnet_export.targets.ort.target import Ort

type Images = NDArray[np.uint8]

ORT = Ort()


@pytest.fixture(autouse=True)
def on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.fixture(scope="module", params=["plain", "grouped", "mixed"])
def artifact(artifact_of: ArtifactOf, request: pytest.FixtureRequest) -> Artifact:
    return artifact_of("ort", "int8", request.param)


@pytest.fixture(scope="module")
def noise(images: Images) -> Images:
    """Images of every pixel value, beside two of the extremes and those of the sample."""
    drawn = np.random.default_rng(0).integers(0, 256, (64, *images.shape[1:])).astype(np.uint8)
    return np.concatenate([np.zeros_like(drawn[:1]), np.full_like(drawn[:1], 255), drawn, images])


def test_every_image_has_the_logits_of_the_file_itself(artifact: Artifact, noise: Images) -> None:
    opened = ORT.open(artifact)
    alone = np.concatenate([opened.run(image[None]) for image in noise])
    np.testing.assert_array_equal(opened.run(noise), alone)


def test_the_file_itself_computes_one_image_of_a_batch(artifact: Artifact, noise: Images) -> None:
    opened = ORT.open(artifact)
    ran: list[int] = []

    class Counting:
        """The file's own session."""

        def run(self, names: list[str], feeds: dict[str, Images]) -> list[Images]:
            ran.append(len(feeds["image"]))
            return opened.session.run(names, feeds)

    watched = replace(opened, session=Counting())
    watched.run(noise)
    assert ran == [1]


def test_where_it_gives_other_logits_the_file_computes_all(
    artifact: Artifact, noise: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ORT.open(artifact).run(noise)

    def wrong(model: onnx.ModelProto) -> onnx.ModelProto:
        changed = unsigned_activations(model)
        scale = next(node.input[1] for node in changed.graph.node if node.output[0] == "logits")
        (tensor,) = (tensor for tensor in changed.graph.initializer if tensor.name == scale)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, scale))
        return changed

    monkeypatch.setattr(session, "unsigned_activations", wrong)
    np.testing.assert_array_equal(ORT.open(artifact).run(noise), expected)


def test_what_cannot_be_rebuilt_is_computed_by_the_file(
    artifact: Artifact, noise: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ORT.open(artifact).run(noise)

    def unknown(_: bytes) -> onnx.ModelProto:
        raise ConversionError("an operator of somebody else's")

    monkeypatch.setattr(session, "rebuilt", unknown)
    np.testing.assert_array_equal(ORT.open(artifact).run(noise), expected)


def test_few_images_are_computed_by_the_file(
    artifact: Artifact, noise: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "unsigned_activations", None)
    ORT.open(artifact).run(noise[:15])


def test_its_own_speed_is_measured(artifact: Artifact, noise: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image alone is computed by the file."""
    monkeypatch.setattr(session, "unsigned_activations", None)
    opened = ORT.open(artifact)
    opened.run(noise[:1])
    assert opened.timed


@pytest.mark.parametrize("machine", ["aarch64", "arm64"])
def test_on_arm_it_is_run_as_it_is(
    machine: str, artifact: Artifact, noise: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(session, "unsigned_activations", None)
    ORT.open(artifact).run(noise)


@pytest.mark.parametrize(("operator", "steps"), [("QLinearAdd", 64), ("QLinearMul", 1024)])
def test_ties_are_rounded_as_they_were(operator: str, steps: int) -> None:
    """Every pair of integers on many grids, by the kernel for INT8 and by the moved graph."""
    random = np.random.default_rng(1)
    first, second = (side.ravel().astype(np.int8) for side in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    for attempt in range(40):
        scales = np.float32(random.integers(1, 64, 3) / steps)
        model = _of_two(operator, scales, random.integers(-128, 128, 3).astype(np.int8))
        expected = _run(model, {"a": first, "b": second})
        moved = unsigned_activations(model)
        for value in (*moved.graph.input, *moved.graph.output):
            value.type.tensor_type.elem_type = TensorProto.UINT8
        found = _run(moved, {"a": _moved(first), "b": _moved(second)})
        np.testing.assert_array_equal(found, _moved(expected), err_msg=f"{attempt}: {scales}")


def _moved(values: NDArray[np.int8]) -> Images:
    return (values.astype(int) + 128).astype(np.uint8)


def _of_two(operator: str, scales: NDArray[np.float32], zeros: NDArray[np.int8]) -> onnx.ModelProto:
    grids = [[f"scale{place}", f"zero{place}"] for place in range(3)]
    values = [value for grid in zip(scales, zeros, strict=True) for value in grid]
    names = [name for grid in grids for name in grid]
    constants = [numpy_helper.from_array(np.array(value), name) for value, name in zip(values, names, strict=True)]
    inputs = ["a", *grids[0], "b", *grids[1], *grids[2]]
    node = helper.make_node(operator, inputs, ["c"], "it", domain="com.microsoft")
    ends = {name: helper.make_tensor_value_info(name, TensorProto.INT8, [65536]) for name in "abc"}
    graph = helper.make_graph([node], "it", [ends["a"], ends["b"]], [ends["c"]], constants)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def _run(model: onnx.ModelProto, feeds: dict[str, NDArray[np.generic]]) -> NDArray[np.generic]:
    values: NDArray[np.generic] = open_session(model.SerializeToString(), "it", session_options()).run(None, feeds)[0]
    return values
