"""The interpreter against ONNX Runtime on the graphs the packages were made from, and against the arithmetic."""

import sys
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
import torch
from graphs import lockstep, onnx_logits, signal_to_noise
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError, DataError
from rexnet_export.pipeline.core.records import Artifact, Precision, stored_file
from rexnet_export.targets.coreml import interpreter as mil_interpreter
from rexnet_export.targets.coreml import interpreter_program as mil_program
from rexnet_export.targets.coreml.builder import IMAGE, onnx_name
from rexnet_export.targets.coreml.interpreter import MilSession
from rexnet_export.targets.coreml.interpreter_operations import OPERATIONS, constant
from rexnet_export.targets.coreml.interpreter_program import Arithmetic
from rexnet_export.targets.coreml.package import Package, read_package
from rexnet_export.targets.coreml.target import CoreML

type Images = NDArray[np.uint8]
type Logits = NDArray[np.float32]
type Sources = Mapping[Precision, Source]


@pytest.fixture(scope="module")
def packages(artifact_of: ArtifactOf) -> Mapping[Precision, Package]:
    return {
        precision: read_package(artifact_of("coreml", precision, "plain").file.path) for precision in CoreML.precisions
    }


def test_float32_program_is_the_float_graph(
    packages: Mapping[Precision, Package], sources: Sources, images: Images
) -> None:
    expected = onnx_logits(sources["fp32"].float_onnx, images)
    np.testing.assert_allclose(MilSession(packages["fp32"]).run(images), expected, rtol=1e-4, atol=1e-4)


def test_float16_program_is_near_the_float_graph(
    packages: Mapping[Precision, Package], sources: Sources, images: Images
) -> None:
    expected = onnx_logits(sources["fp32"].float_onnx, images)
    logits = MilSession(packages["fp16"]).run(images)
    assert signal_to_noise(expected, logits) > 30
    np.testing.assert_array_equal(logits, logits.astype(np.float16))


@pytest.mark.parametrize("arithmetic", ["program", "float32"])
def test_every_int8_layer_gives_the_integers_of_the_qdq_graph(
    packages: Mapping[Precision, Package], sources: Sources, images: Images, arithmetic: Arithmetic
) -> None:
    equal = lockstep(packages["int8"], sources["int8"].qdq_onnx, images, arithmetic)
    # In float32 biases in float16 part them still, most where steps are finest: ahead of the gates.
    assert min(equal.values()) > (0.85 if arithmetic == "program" else 0.98)
    assert np.mean(list(equal.values())) > (0.98 if arithmetic == "program" else 0.999)


def test_only_float16_biases_part_the_int8_program_from_the_qdq_graph(
    packages: Mapping[Precision, Package], sources: Sources, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the graph's int32 biases in their place, what is left are sums added in another order, next to halves."""
    assert sources["int8"].qdq_onnx
    initializers = onnx.load(sources["int8"].qdq_onnx.path).graph.initializer
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in initializers}

    replaced = set()

    def exact(var: object) -> torch.Tensor:
        name = f"{onnx_name(var.name)}.q"
        if not name.endswith(".bias.q"):
            return constant(var)
        replaced.add(name)
        return torch.tensor((stored[name] * stored[f"{name}.scale"].astype(np.float64)).astype(np.float32))

    monkeypatch.setattr(mil_program, "constant", exact)
    equal = lockstep(packages["int8"], sources["int8"].qdq_onnx, images, "float32")
    assert replaced == {name for name in stored if name.endswith(".bias.q")}
    assert min(equal.values()) > 0.999
    assert np.mean(list(equal.values())) > 0.99999


def test_batches_do_not_matter(
    packages: Mapping[Precision, Package], images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = MilSession(packages["fp32"])
    whole = session.run(images)
    monkeypatch.setattr(mil_interpreter, "PIXELS_AT_ONCE", 4 * 32 * 32)
    np.testing.assert_allclose(session.run(images), whole, rtol=1e-4, atol=1e-4)


def test_unknown_operation_is_named(packages: Mapping[Precision, Package], monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: function for name, function in OPERATIONS.items() if name != "reduce_mean"}
    monkeypatch.setattr(mil_program, "OPERATIONS", known)
    with pytest.raises(ConversionError, match=r"the interpreter has no reduce_mean \(features__2__pool\)"):
        MilSession(packages["fp32"])


def test_images_of_another_size_are_refused(packages: Mapping[Precision, Package], images: Images) -> None:
    with pytest.raises(DataError, match=r"uint8 images \[n, 32, 32, 3\]"):
        MilSession(packages["fp32"]).run(images[:, :16])
    with pytest.raises(DataError, match=r"got uint8 \[0, 32, 32, 3\]"):
        MilSession(packages["fp32"]).run(images[:0])


def test_float32_arithmetic_of_a_float16_program_is_nearer_to_the_float_graph(
    packages: Mapping[Precision, Package], sources: Sources, images: Images
) -> None:
    """What is left is the rounding of the weights in the file."""
    expected = onnx_logits(sources["fp32"].float_onnx, images)
    exact = MilSession(packages["fp16"], arithmetic="float32").run(images)
    rounded = MilSession(packages["fp16"]).run(images)
    assert signal_to_noise(expected, exact) > signal_to_noise(expected, rounded)
    assert np.any(exact != exact.astype(np.float16))


def test_threads_are_given_back(packages: Mapping[Precision, Package], images: Images) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        MilSession(packages["fp32"]).run(images[:2])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_prediction_is_the_classifiers(packages: Mapping[Precision, Package], sources: Sources, images: Images) -> None:
    session = MilSession(packages["int8"])
    prediction = session.predict(images)
    np.testing.assert_array_equal(prediction.logits, session.run(images))
    powers = np.exp(prediction.logits.astype(np.float64))
    np.testing.assert_allclose(prediction.probabilities, powers / powers.sum(1, keepdims=True), rtol=1e-5)
    labels = sources["int8"].card.labels
    assert prediction.labels == tuple(labels[index] for index in prediction.logits.argmax(1))
    assert len(set(prediction.labels)) > 1


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on macOS only")
@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_core_ml_gives_the_same_logits(
    packages: Mapping[Precision, Package], images: Images, precision: Precision
) -> None:
    path = packages[precision].path
    artifact = Artifact(target="coreml", precision=precision, file=stored_file(path))
    theirs = CoreML().open(artifact).run(images)
    prediction = MilSession(packages[precision]).predict(images)
    assert signal_to_noise(prediction.logits, theirs) > {"fp32": 60, "fp16": 30, "int8": 20}[precision]
    from coremltools.models import MLModel  # noqa: PLC0415

    answer = MLModel(str(path)).predict({IMAGE: Image.fromarray(images[0])})
    assert answer["classLabel"] == max(answer["classLabel_probs"], key=answer["classLabel_probs"].get)
    np.testing.assert_allclose(sum(answer["classLabel_probs"].values()), 1, atol=0.01)
