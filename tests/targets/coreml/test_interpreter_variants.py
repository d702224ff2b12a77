"""Every family of networks through the interpreter, and image inputs as a package may declare them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from depths import SHORT
from graphs import lockstep, onnx_logits, signal_to_noise
from mil_programs import builder, built, saved
from numpy.typing import NDArray
from onnx import numpy_helper

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Precision, stored_file
from rexnet_export.pipeline.model.architecture import Architecture, architecture
from rexnet_export.targets.coreml.interpreter import MilSession
from rexnet_export.targets.coreml.package import Package, quiet, read_package
from rexnet_export.targets.coreml.target import CoreML

type Images = NDArray[np.uint8]

CLASSES = 10
VARIANTS = {
    "lite": architecture("lite", 0.4, classes=CLASSES, stages=SHORT),
    "rexnetr": architecture("r", 0.4, classes=CLASSES, stages=SHORT),
    "without squeeze-excitation": architecture(width=0.4, classes=CLASSES, use_se=False, stages=SHORT),
}


@pytest.fixture(scope="module", params=VARIANTS)
def variant(
    request: pytest.FixtureRequest, sources_of: Callable[[Architecture], Mapping[Precision, Source]]
) -> Mapping[Precision, Source]:
    return sources_of(VARIANTS[request.param])


def test_float32_logits_are_those_of_onnx_runtime(
    variant: Mapping[Precision, Source], images: Images, tmp_path: Path
) -> None:
    package = read_package(CoreML().convert(variant["fp32"], tmp_path, "variant").file.path)
    assert signal_to_noise(onnx_logits(variant["fp32"].float_onnx, images), MilSession(package).run(images)) > 80


def test_float16_logits_are_those_of_the_graph_with_its_weights_in_float16(
    variant: Mapping[Precision, Source], images: Images, tmp_path: Path
) -> None:
    package = read_package(CoreML().convert(variant["fp16"], tmp_path, "variant").file.path)
    model = onnx.load(variant["fp16"].float_onnx.path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith((".weight", ".bias")):
            tensor.CopyFrom(numpy_helper.from_array(halved(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, tmp_path / "half.onnx")
    expected = onnx_logits(stored_file(tmp_path / "half.onnx"), images)
    assert signal_to_noise(expected, MilSession(package, arithmetic="float32").run(images)) > 80
    # Activations in float16 left 32 to 37 dB of these networks.
    rounded = signal_to_noise(expected, MilSession(package).run(images))
    assert 60 > rounded > 25


def halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)


def test_every_int8_layer_gives_the_integers_of_the_qdq_graph(
    variant: Mapping[Precision, Source], images: Images, tmp_path: Path
) -> None:
    package = read_package(CoreML().convert(variant["int8"], tmp_path, "variant").file.path)
    equal = lockstep(package, variant["int8"].qdq_onnx, images, "float32")
    assert min(equal.values()) > 0.98  # one of the 76 values of the smallest tensor may fall the other way
    assert np.mean(list(equal.values())) > 0.999
    assert np.isfinite(MilSession(package).run(images)).all()


def image_program(**image: object) -> Package:
    """A classifier whose logits are the mean of each channel of its 4 x 4 image, saved by coremltools."""
    mb = builder()

    def build(image: object) -> object:
        logits = mb.reduce_mean(x=image, axes=[2, 3], keep_dims=False, name="logits")
        return logits, mb.softmax(x=logits, axis=-1, name="probabilities")

    with quiet():
        import coremltools as ct  # noqa: PLC0415

        inputs = [ct.ImageType(name="image", shape=(1, image.pop("channels", 3), 4, 4), **image)]
        labels = ["red", "green", "blue"][: inputs[0].shape.shape[1]]
        classifier = ct.ClassifierConfig(labels, predicted_probabilities_output="probabilities")
        return saved(built(build, [inputs[0].shape.shape], half=False), inputs=inputs, classifier_config=classifier)


def picture() -> Images:
    return np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)


def test_scale_and_bias_of_the_image_are_operations_of_the_program() -> None:
    package = image_program(scale=1 / 128, bias=[-1.0, -0.5, 0.25])
    assert [op.op_type for op in package.operations if op.op_type != "const"][:2] == ["mul", "add"]
    expected = picture().mean((1, 2)) / 128 + [-1.0, -0.5, 0.25]
    prediction = MilSession(package).predict(picture())
    np.testing.assert_allclose(prediction.logits, expected, rtol=1e-5)
    assert prediction.labels == tuple(("red", "green", "blue")[index] for index in expected.argmax(1))


def test_channels_come_in_the_order_the_specification_declares() -> None:
    package = image_program(color_layout="BGR")
    np.testing.assert_allclose(MilSession(package).run(picture()), picture().mean((1, 2))[:, ::-1], rtol=1e-5)


def test_a_grey_image_is_refused() -> None:
    package = image_program(color_layout="G", channels=1)
    with pytest.raises(ConversionError, match="takes a GRAYSCALE image, no colour one"):
        MilSession(package)


def test_a_tensor_in_place_of_an_image_is_refused() -> None:
    mb = builder()
    package = saved(built(lambda x0: mb.relu(x=x0), [(1, 3, 4, 4)], half=False))
    with pytest.raises(ConversionError, match=r"takes \['x0'\], not one image named 'image'"):
        MilSession(package)
