from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from rexnet_export.quantization.onnx.partial_run import Walk
from rexnet_export.quantization.onnx.simulate import Score, Simulator, simulator
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import rescaled
from rexnet_export.quantization.search import bias_correction as subject
from rexnet_export.quantization.search.bias_correction import choose_correction, clipped, correct_biases
from rexnet_export.quantization.search.choose_ranges import better
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import QuantTable, TensorEntry

BIAS_MAX = 2**30


def shifts(reference: onnx.ModelProto, quantized: onnx.ModelProto, images: np.ndarray, name: str) -> np.ndarray:
    """Mean per channel of float minus quantized, before the activation is rounded, over images and positions."""
    means = []
    for network in (reference, quantized):
        walk = Walk(network, images)
        names = [node.output[0] for node in walk.model.graph.node]
        output = name if (name in names and name != "logits") or f"{name}.float" not in names else f"{name}.float"
        walk.advance(names.index(output) + 1)
        values = np.concatenate([group[output] for group in walk.held]).astype(np.float64)
        means.append(values.mean(axis=(0, *range(2, values.ndim))))
    return means[0] - means[1]


def layers(model: onnx.ModelProto) -> list[str]:
    return [node.output[0] for node in model.graph.node if node.op_type in {"Conv", "Gemm"}]


@pytest.fixture(scope="module")
def corrected(v1: SimpleNamespace) -> QuantTable:
    return correct_biases(v1.model, v1.table, v1.images, layers(v1.model))


@pytest.mark.parametrize("name", ["stem", "features.4.depthwise", "features.9.project", "features.7.squeeze", "logits"])
def test_no_mean_shift_is_left_in_any_layer(v1: SimpleNamespace, corrected: QuantTable, name: str) -> None:
    reference = clipped(v1.model, v1.table)
    before, after = (
        shifts(reference, insert_qdq(v1.model, table, "uint8"), v1.images, name) for table in (v1.table, corrected)
    )
    steps = np.asarray(corrected.tensors[f"{name}.bias"].params.scale)
    assert (np.abs(after) < steps + 1e-4).all()
    assert np.abs(after).max() < np.abs(before).max() / 5


def test_two_million_pixels_are_looked_at(v1: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(subject, "within", lambda images, pixels: asked.append(pixels) or images[:1])
    correct_biases(v1.model, v1.table, v1.images, ["stem"])
    assert asked == [2**21]


def test_only_biases_change_and_all_of_them(v1: SimpleNamespace, corrected: QuantTable) -> None:
    for name, entry in corrected.tensors.items():
        assert (entry.correction is not None) == (entry.decision == "derived")
        assert replace(entry, correction=None) == v1.table.tensors[name]


def test_correcting_again_gives_the_same(v1: SimpleNamespace, corrected: QuantTable) -> None:
    assert correct_biases(v1.model, corrected, v1.images, layers(v1.model)) == corrected


def test_a_bias_never_leaves_the_integers_it_may_take() -> None:
    params = QuantParams(scale=(1e-6, 1e-12), zero_point=(0, 0), axis=0, bits=32)
    entry = subject._corrected(
        TensorEntry(decision="derived", params=params, source="x"),
        np.array([0.5, BIAS_MAX * 0.9e-12], np.float32),
        np.array([0.25, 0.5]),
    )
    assert entry.correction == (0.25, 0.0)


def test_images_are_taken_as_far_as_memory_allows(v1: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MOST_PIXELS", 5 * 32 * 32)
    few = correct_biases(v1.model, v1.table, v1.images, ["stem", "pool", "logits"])
    assert few == correct_biases(v1.model, v1.table, v1.images[:5], ["stem", "logits"])
    changed = {name for name, entry in few.tensors.items() if entry.correction is not None}
    assert changed == {"stem.bias", "logits.bias"}


def test_held_back_images_decide_what_is_corrected(v1: SimpleNamespace) -> None:
    found = choose_correction(v1.model, v1.table, v1.images, simulator(v1.model, v1.images))
    scores = {trial.name: trial.score for trial in found.trials}
    assert not [name for name, score in scores.items() if better(score, scores[found.best], len(v1.images))]
    assert scores["uncorrected"] != scores["depthwise corrected"] != scores["all corrected"]
    assert simulator(v1.model, v1.images).score(insert_qdq(v1.model, found.table, "uint8")) == scores[found.best]


def test_what_does_not_help_is_left_out(v1: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def worse(judge: Simulator, model: onnx.ModelProto) -> Score:
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        plain = v1.table.integers("features.3.depthwise.bias", floats["features.3.depthwise.bias"])
        return Score(sqnr_db=30.0 if (stored["features.3.depthwise.bias.q"] == plain).all() else 20.0, agreement=1.0)

    floats = {t.name: onnx.numpy_helper.to_array(t) for t in v1.model.graph.initializer}
    monkeypatch.setattr(Simulator, "score", worse)
    found = choose_correction(v1.model, v1.table, v1.images, simulator(v1.model, v1.images))
    assert found.best == "uncorrected"
    assert found.table == v1.table


def test_what_clipping_takes_is_not_given_back(v1: SimpleNamespace) -> None:
    name, layer = "features.3.expand.silu", "features.3.depthwise"
    entry = v1.table.tensors[name]
    narrow = replace(entry, params=replace(entry.params, scale=(entry.params.scale[0] / 16,)))
    table = rescaled(view(v1.model), replace(v1.table, tensors={**v1.table.tensors, name: narrow}))
    correction = correct_biases(v1.model, table, v1.images, [layer]).tensors[f"{layer}.bias"].correction
    assert correction is not None
    taken = shifts(v1.model, insert_qdq(v1.model, table, "uint8"), v1.images, layer)
    assert np.abs(taken).max() > 5 * np.abs(correction).max()
