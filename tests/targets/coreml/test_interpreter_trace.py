"""Every activation of a package by ONNX name, against ONNX Runtime on the graph it was made from."""

from collections.abc import Mapping

import numpy as np
import pytest
from graphs import every_tensor
from numpy.typing import NDArray
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.records import Precision, StoredFile
from rexnet_export.targets.coreml.interpreter import MilSession
from rexnet_export.targets.coreml.package import read_package
from rexnet_export.targets.coreml.target import CoreML

type Sources = Mapping[Precision, Source]
type Tensors = Mapping[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def sessions(artifact_of: ArtifactOf) -> Mapping[Precision, MilSession]:
    """Without rounding to float16, which ONNX Runtime does not do either."""
    packages = {
        precision: read_package(artifact_of("coreml", precision, "plain").file.path) for precision in CoreML.precisions
    }
    return {precision: MilSession(package, arithmetic="float32") for precision, package in packages.items()}


def activations(graph: StoredFile | None, images: NDArray[np.uint8]) -> Tensors:
    """ONNX Runtime's real numbers by plain name: read back from integers where there are some."""
    assert graph
    from_parameters = (".weight.dq", ".bias.dq")
    found = {
        name: value
        for name, value in every_tensor(graph, images).items()
        if value.dtype == np.float32 and not name.endswith((".float", *from_parameters))
    }
    read_back = {name.removesuffix(".dq"): value for name, value in found.items() if name.endswith(".dq")}
    return {name: value for name, value in found.items() if not name.endswith(".dq")} | read_back


def test_float_activations_are_those_of_the_float_graph(
    sessions: Mapping[Precision, MilSession], sources: Sources, images: NDArray[np.uint8]
) -> None:
    expected = activations(sources["fp32"].float_onnx, images[:3])
    found = sessions["fp32"].trace(images[:3])
    # coremltools fuses x * sigmoid(x) into silu(x) whatever passes are asked for.
    assert found.keys() <= expected.keys()
    assert {name.rpartition(".")[2] for name in expected.keys() - found.keys()} == {"sigmoid"}
    assert {"stem.silu", "features.3.gate", "features.4.residual.pad", "pool", "flatten", "logits"} <= found.keys()
    for name in found:
        scale = np.abs(expected[name]).max() + 1e-6
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4 * scale, err_msg=name)


def test_int8_activations_are_those_of_the_qdq_graph(
    sessions: Mapping[Precision, MilSession], sources: Sources, images: NDArray[np.uint8]
) -> None:
    """On the grid of their scale, and equal but for a step now and then, which add up from layer to layer: biases are
    float16 in the file. test_mil_interpreter.py compares each layer by itself, to the integer."""
    table = sources["int8"].table
    assert table
    expected = activations(sources["int8"].qdq_onnx, images[:3])
    found = sessions["int8"].trace(images[:3])
    assert found.keys() == expected.keys()
    assert found["features.3.gate"].shape[2:] == (1, 1)
    equal: dict[str, float] = {}
    worst = (0.0, "")
    for name, value in found.items():
        entry = table.tensors.get(name)
        if entry is None or entry.params is None or name not in expected:
            continue
        (scale,) = entry.params.scale
        steps = np.rint((value - expected[name]) / scale)
        np.testing.assert_allclose((value - expected[name]) / scale, steps, atol=1e-2, err_msg=name)
        equal[name] = np.mean(steps == 0)
        noise = np.sum((value - expected[name]) ** 2) / np.sum((expected[name] - expected[name].mean()) ** 2)
        worst = max(worst, (noise, name))
    assert worst[0] < 0.4, worst  # of another tensor it would be above 1
    assert min(equal[name] for name in ("input", "stem", "stem.sigmoid", "stem.silu", "features.0.relu6")) > 0.99
    assert len(equal) > 50


def test_trace_ends_with_the_logits_of_a_run_and_names_nothing_else(
    sessions: Mapping[Precision, MilSession], images: NDArray[np.uint8]
) -> None:
    for session in sessions.values():
        found = session.trace(images[:3])
        assert not [
            name for name in found if name.startswith("image") or name.endswith((".q", ".dq", ".half", ".float"))
        ]
        assert "probabilities" not in found
        np.testing.assert_allclose(
            found["logits"], session.run(images[:3]), rtol=0, atol=0.05 * np.abs(found["logits"]).max()
        )
        assert all(value.dtype == np.float32 and value.flags.c_contiguous for value in found.values())
        assert found["input"].shape == (3, 4, 32, 32)
        np.testing.assert_allclose(found["input"][:, :3], images[:3].transpose(0, 3, 1, 2) / 256, atol=1 / 512)
