"""Traces: the logits of the untraced file, and the tensors of the float graph by their ONNX names."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError, DataError
from rexnet_export.pipeline.core.records import Precision
from rexnet_export.pipeline.graph.float_tracer import float_trace
from rexnet_export.targets.ort.session import open_session
from rexnet_export.targets.ort.target import Ort
from rexnet_export.targets.tflite.target import Tflite

type Images = NDArray[np.uint8]
type Sources = Mapping[Precision, Source]


def test_float_ort_files_trace_the_float_graph(sources: Sources, images: Images, artifact_of: ArtifactOf) -> None:
    artifact = artifact_of("ort", "fp32", "plain")
    session, reference = Ort().open(artifact), float_trace(sources["fp32"].float_onnx.path)
    found, expected = session.trace(images[:2]), reference.trace(images[:2])
    np.testing.assert_array_equal(found["logits"], session.run(images[:2]))
    assert set(found) < set(expected)
    # A fused operator keeps the name of its last tensor, so the ones that are left are the float graph's.
    assert {"stem", "stem.silu", "features.3.pool", "features.3.relu6", "penultimate.silu"} <= found.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-4 * np.abs(expected[name]).max(), err_msg=name)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.1)])
def test_float_tflite_files_trace_the_float_graph(
    precision: Precision,
    tolerance: float,
    sources: Sources,
    images: Images,
    artifact_of: ArtifactOf,
) -> None:
    session = Tflite().open(artifact_of("tflite", precision, "plain"))
    found, expected = session.trace(images[:2]), float_trace(sources["fp32"].float_onnx.path).trace(images[:2])
    np.testing.assert_array_equal(found["logits"], session.run(images[:2]))
    assert set(found) < set(expected)
    for name, values in found.items():
        largest = np.abs(expected[name]).max()
        np.testing.assert_allclose(values, expected[name], atol=tolerance * largest, err_msg=name)


def test_int8_onnx_files_trace_what_their_ort_file_traces(sources: Sources, images: Images, tmp_path: Path) -> None:
    Ort().convert(sources["int8"], tmp_path, "tiny")
    plain, mobile = (open_session(tmp_path / f"tiny{suffix}") for suffix in (".onnx", ".ort"))
    found, expected = plain.trace(images[:2]), mobile.trace(images[:2])
    np.testing.assert_array_equal(found["logits"], plain.run(images[:2]))
    assert list(found) == list(expected)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], name)


def test_tensors_come_after_what_they_are_computed_from(sources: Sources, images: Images, tmp_path: Path) -> None:
    reference = float_trace(sources["fp32"].float_onnx.path)
    assert tuple(reference.trace(images[:1])) == reference.tensors
    artifact = Ort().convert(sources["int8"], tmp_path, "tiny")
    order = list(Ort().open(artifact).trace(images[:1]))
    for name in order:
        assert all(order.index(source) < order.index(name) for source in reference.inputs[name] if source in order)


def test_float_trace_runs_the_graph_it_is_given(sources: Sources, images: Images, tmp_path: Path) -> None:
    path = sources["fp32"].float_onnx.path
    reference, session = float_trace(path), open_session(path)
    np.testing.assert_array_equal(reference.run(images[:3]), reference.trace(images[:3])["logits"])
    np.testing.assert_allclose(reference.run(images[:3]), session.run(images[:3]), atol=1e-4)
    assert reference.inputs["stem.silu"] == ("stem", "stem.sigmoid")
    with pytest.raises(DataError, match="uint8 images"):
        reference.trace(images[:, :16])
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConversionError, match="cannot read"):
        float_trace(damaged)
    model = onnx.load(path)
    model.graph.input[0].name = model.graph.node[0].input[0] = "pixels"
    onnx.save(model, damaged)
    with pytest.raises(ConversionError, match="does not take `image`"):
        float_trace(damaged)


def test_other_images_are_refused(sources: Sources, images: Images, tmp_path: Path) -> None:
    for target in (Ort(), Tflite()):
        session = target.open(target.convert(sources["fp32"], tmp_path, "tiny"))
        with pytest.raises(DataError, match="uint8 images"):
            session.trace(images[:, :16])


def test_the_torch_reference_traces_its_logits(sources: Sources, images: Images) -> None:
    from rexnet_export.pipeline.checkpoint.load import load_checkpoint  # noqa: PLC0415
    from rexnet_export.pipeline.model.torch_session import open_reference  # noqa: PLC0415

    source = sources["fp32"]
    network = load_checkpoint(source.checkpoint.path).network
    session = open_reference(network, source.card.preprocess, cuda=False)
    found = session.trace(images[:2])
    assert list(found) == ["logits"]
    np.testing.assert_array_equal(found["logits"], session.run(images[:2]))
