"""The file for VNNI: exact where the processor is, made exact and called so where it is not."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from shared import ArtifactOf
from vnni import processor_loses_sums

from rexnet_export.pipeline.artifact import self_test
from rexnet_export.pipeline.artifact.target import Source, is_emulated
from rexnet_export.pipeline.core.records import Artifact, Precision
from rexnet_export.targets.ort import as_uint8, saturation, session
from rexnet_export.targets.ort.saturation import saturates
from rexnet_export.targets.ort.target import Ort

type Images = NDArray[np.uint8]

ORT = Ort()


@pytest.fixture(scope="module")
def artifact(artifact_of: ArtifactOf) -> Artifact:
    whole = artifact_of("ort", "int8", "plain")
    return replace(whole, file=whole.presets["vnni"])


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that loses sums."""
    monkeypatch.setattr(session, "saturates", lambda: True)


def test_what_is_found_is_what_the_processor_has() -> None:
    assert saturates() is processor_loses_sums()


class Answering:
    """ONNX Runtime with kernels that answer so."""

    def __init__(self, *answers: int) -> None:
        self._answers = answers

    def run(self, _: None, feeds: Mapping[str, Images]) -> list[Images]:
        assert {(values.size, values.min()) for values in feeds.values()} == {(64, 255)}
        return [np.full((1, 64), answer, np.uint8) for answer in self._answers]


@pytest.mark.parametrize(
    ("answers", "lost"),
    [((200, 200), False), ((199, 201), False), ((101, 200), True), ((200, 101), True), ((200, 202), True)],
)
def test_a_lost_sum_of_either_kernel_is_seen(
    answers: tuple[int, int],
    lost: bool,  # noqa: FBT001 - a parameter of the table above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(saturation, "open_session", lambda *_: Answering(*answers))
    assert saturates.__wrapped__() is lost


def test_activations_are_unsigned_and_weights_signed(artifact: Artifact) -> None:
    graph = onnx.load(artifact.file.path).graph
    types = {t.name: t.data_type for t in graph.initializer}
    weights = {kind for name, kind in types.items() if name.endswith((".weight.q", ".weight.q.zero_point"))}
    others = {kind for name, kind in types.items() if ".weight" not in name and name.endswith(".q.zero_point")}
    assert weights == {onnx.TensorProto.INT8}
    assert others == {onnx.TensorProto.UINT8}


def test_every_convolution_is_one_integer_convolution(
    artifact: Artifact, plain_sources: Mapping[Precision, Source]
) -> None:
    wanted = sum(node.op_type == "Conv" for node in onnx.load(plain_sources["fp32"].float_onnx.path).graph.node)
    operators = ORT.inspect(artifact).structure.operators
    assert {op: n for op, n in operators.items() if "Conv" in op} == {"QLinearConv": wanted}


def test_it_gives_the_logits_of_the_x86_file_digit_for_digit(
    artifact: Artifact, artifact_of: ArtifactOf, images: Images
) -> None:
    whole = artifact_of("ort", "int8", "plain")
    extremes = np.stack([*images, np.zeros_like(images[0]), np.full_like(images[0], 255)])
    x86 = ORT.open(replace(whole, file=whole.presets["x86"]))
    np.testing.assert_array_equal(ORT.open(artifact).run(extremes), x86.run(extremes))


def test_it_says_what_it_wants(artifact: Artifact) -> None:
    wants = "For x86 with VNNI; others lose sums in silence unless session.x64quantprecision is 1."
    metadata = ORT.inspect(artifact).metadata
    assert metadata["processor"] == "VNNI"
    assert metadata["description"].endswith(f"10 classes. {wants}")
    assert onnx.load(artifact.file.path).doc_string == metadata["description"]


def test_nobody_believes_or_times_what_loses_sums(
    artifact: Artifact, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "saturates", lambda: False)
    own = ORT.open(artifact)
    monkeypatch.setattr(session, "saturates", lambda: True)
    opened = ORT.open(artifact)
    assert own.timed
    assert not opened.timed
    assert (is_emulated(own), is_emulated(opened)) == (False, True)
    assert opened.executed_by == f"{own.executed_by}, weights as UINT8 for want of VNNI"


@pytest.mark.usefixtures("losing")
def test_it_is_then_what_the_file_means(artifact: Artifact, artifact_of: ArtifactOf, images: Images) -> None:
    whole = artifact_of("ort", "int8", "plain")
    opened, x86 = ORT.open(artifact), ORT.open(replace(whole, file=whole.presets["x86"]))
    np.testing.assert_array_equal(opened.run(images), x86.run(images))
    traced, expected = opened.trace(images[:2]), x86.trace(images[:2])
    assert traced.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(traced[name], values, err_msg=name)
    inspection = ORT.inspect(artifact)
    tested = self_test.check(opened, inspection.metadata, inspection.qparams)
    assert isinstance(tested, self_test.SelfTest)
    assert tested.largest_difference == 0


@pytest.mark.usefixtures("losing")
@pytest.mark.parametrize("preset", ["", "x86", "npu"])
def test_other_files_are_run_as_they_are(preset: str, artifact_of: ArtifactOf) -> None:
    whole = artifact_of("ort", "int8", "plain")
    assert ORT.open(replace(whole, file=whole.presets[preset] if preset else whole.file)).timed


def test_integers_of_activations_are_not_made_unsigned(artifact: Artifact) -> None:
    """INT8 weights and their zero points alone move, by 128."""
    model = onnx.load(artifact.file.path)
    changed = as_uint8.unsigned(model)
    before, after = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in each.graph.initializer}
        for each in (model, changed)
    )
    for name, values in before.items():
        moved = 128 if values.dtype == np.int8 else 0
        np.testing.assert_array_equal(after[name].astype(int), values.astype(int) + moved, err_msg=name)
