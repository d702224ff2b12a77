from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from rexnet_export.pipeline.accuracy.paired_statistics import sqnr_db
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.onnx import simulate
from rexnet_export.quantization.onnx.simulate import Score, compare, simulator
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq


def literal_logits(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"image": images})[0]
    return found


def test_the_reference_is_the_float_network(v1: SimpleNamespace) -> None:
    judge = simulator(v1.model, v1.images)
    assert np.allclose(judge.reference, literal_logits(v1.model, v1.images), atol=1e-5)
    assert judge.score(v1.model) == Score(sqnr_db=math.inf, agreement=1.0)


def test_the_simulated_network_is_the_integer_one(either: SimpleNamespace) -> None:
    quantized = insert_qdq(either.model, either.table, "uint8")
    judge = simulator(either.model, either.images)
    step = either.table.tensors["logits"].params.scale[0]
    difference = np.abs(judge.logits(quantized) - literal_logits(quantized, either.images)) / step
    assert difference.mean() < 1.0
    score = judge.score(quantized)
    assert 10.0 < score.sqnr_db < 60.0
    assert score.sqnr_db == pytest.approx(sqnr_db(judge.reference, judge.logits(quantized)))


def test_a_float_layer_between_integers_keeps_its_weights() -> None:
    """ONNX Runtime's optimizer would give them scales: here one weight so large that the others would be lost."""
    weights = np.array([[1000.0, 0.3, 0.3], [0.3, 1000.0, 0.3]], np.float32)[:, :, None, None]
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 21]>
        layer (uint8[n, 4, 4, 3] image) => (float[n, 2, 4, 4] out)
        <float pixel = {0.00390625}, uint8 zero = {0}, float step = {0.01}, float[2] bias = {0.0, 0.0}> {
            planes = Transpose <perm = [0, 3, 1, 2]> (image)
            real = DequantizeLinear(planes, pixel, zero)
            made = Conv(real, weights, bias)
            integers = QuantizeLinear(made, step, zero)
            out = DequantizeLinear(integers, step, zero)
        }""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "weights"))
    images = np.zeros((5, 4, 4, 3), np.uint8)
    images[..., 2] = np.arange(5 * 16).reshape(5, 4, 4)  # read by the small weights alone
    found = simulate.run(model, images)
    assert len(np.unique(found)) > 5
    np.testing.assert_array_equal(found, literal_logits(model, images))


def test_a_coarser_network_scores_lower(v1: SimpleNamespace) -> None:
    coarse = {
        name: replace(entry, params=replace(entry.params, scale=(8 * entry.params.scale[0],)))
        if name == "penultimate.silu"
        else entry
        for name, entry in v1.table.tensors.items()
    }
    judge = simulator(v1.model, v1.images)
    fine, worse = (
        judge.score(insert_qdq(v1.model, replace(v1.table, tensors=tensors), "uint8"))
        for tensors in (v1.table.tensors, coarse)
    )
    assert worse.sqnr_db < fine.sqnr_db - 1.0


def test_groups_do_not_change_the_result_and_keep_the_order(
    v1: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized = insert_qdq(v1.model, v1.table, "uint8")
    whole = simulator(v1.model, v1.images).logits(quantized)
    monkeypatch.setattr(simulate, "LARGEST_GROUP", 3)
    assert np.array_equal(simulator(v1.model, v1.images).logits(quantized), whole)


@pytest.mark.parametrize(
    ("images", "side", "sizes"),
    [
        (10, 32, [4, 4, 2]),
        (4, 64, [4]),
        (5, 65, [3, 2]),
        (2, 224, [1, 1]),
        (0, 32, []),
    ],
)
def test_groups_are_of_four_images_or_of_what_has_as_many_pixels_as_four_of_64(
    images: int, side: int, sizes: list[int]
) -> None:
    assert [len(group) for group in simulate.groups(np.empty((images, side, side, 3), np.uint8))] == sizes


@pytest.mark.parametrize(("pixels", "fewest", "taken"), [(3 * 64, 1, 3), (4 * 64 - 1, 1, 3), (63, 1, 1), (64, 5, 5)])
def test_images_are_taken_while_they_have_so_few_pixels(pixels: int, fewest: int, taken: int) -> None:
    images = np.arange(9, dtype=np.uint8).repeat(8 * 8 * 3).reshape(9, 8, 8, 3)
    assert simulate.within(images, pixels, fewest)[:, 0, 0, 0].tolist() == list(range(taken))
    judge = simulate.Simulator(images=images, reference=np.zeros((9, 2), np.float32)).within(pixels, fewest)
    assert (len(judge.images), len(judge.reference)) == (taken, taken)


def test_one_image_is_taken_however_large() -> None:
    assert len(simulate.within(np.empty((3, 8, 8, 3), np.uint8), 1)) == 1


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (3, 3), (4, 4), (64, 4)])
def test_four_groups_run_side_by_side_where_there_are_cores(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "usable_cores", lambda: cores)
    with simulate.threads() as pool:
        assert pool._max_workers == threads


def test_the_first_images_are_judged_as_in_the_whole(v1: SimpleNamespace) -> None:
    quantized = insert_qdq(v1.model, v1.table, "uint8")
    judge = simulator(v1.model, v1.images)
    few = judge.first(4)
    assert np.array_equal(few.logits(quantized), judge.logits(quantized)[:4])
    assert few.score(quantized) == compare(judge.reference[:4], judge.logits(quantized)[:4])


def test_agreement_counts_images_of_the_same_class() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 2.0]], np.float32)
    other = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 2.0]], np.float32)
    assert compare(reference, other).agreement == 0.75
    assert compare(reference, other).sqnr_db == pytest.approx(10 * math.log10(15 / 10))
    assert compare(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)).sqnr_db == -math.inf


def test_no_images_and_wrong_images_are_refused(v1: SimpleNamespace) -> None:
    with pytest.raises(ConversionError, match="no images are left to judge INT8 by"):
        simulator(v1.model, v1.images[:0])
    with pytest.raises(ConversionError, match=r"cannot run the network: .*image"):
        simulator(v1.model, v1.images[:, :16])
    with pytest.raises(ConversionError, match="cannot open the network"):
        simulator(onnx.ModelProto(), v1.images)
