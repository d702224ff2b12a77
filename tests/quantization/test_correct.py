from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from rexnet_export.quantization import correct as subject
from rexnet_export.quantization.correct import correct_biases
from rexnet_export.quantization.qdq import insert_qdq
from rexnet_export.quantization.qparams import BIAS_MAX, QuantParams
from rexnet_export.quantization.table import QuantTable, TensorEntry
from rexnet_export.quantization.walk import Walk


def shifts(model: onnx.ModelProto, table: QuantTable, images: np.ndarray, name: str) -> np.ndarray:
    """Mean per channel of float minus quantized, before the activation is rounded, over images and positions."""
    means = []
    for network in (model, insert_qdq(model, table, "uint8")):
        walk = Walk(network, images)
        names = [node.output[0] for node in walk.model.graph.node]
        output = name if (name in names and name != "logits") or f"{name}.float" not in names else f"{name}.float"
        walk.advance(names.index(output) + 1)
        values = np.concatenate([group[output] for group in walk.held]).astype(np.float64)
        means.append(values.mean(axis=(0, *range(2, values.ndim))))
    return means[0] - means[1]


@pytest.fixture(scope="module")
def corrected(v1: SimpleNamespace) -> QuantTable:
    return correct_biases(v1.model, v1.table, v1.images)


@pytest.mark.parametrize("name", ["stem", "features.4.depthwise", "features.9.project", "features.7.squeeze", "logits"])
def test_no_mean_shift_is_left_in_any_layer(v1: SimpleNamespace, corrected: QuantTable, name: str) -> None:
    before = shifts(v1.model, v1.table, v1.images, name)
    after = shifts(v1.model, corrected, v1.images, name)
    steps = np.asarray(corrected.tensors[f"{name}.bias"].params.scale)
    assert (np.abs(after) < steps + 1e-4).all()
    assert np.abs(after).max() < np.abs(before).max() / 5


def test_only_biases_change_and_all_of_them(v1: SimpleNamespace, corrected: QuantTable) -> None:
    for name, entry in corrected.tensors.items():
        assert (entry.correction is not None) == (entry.decision == "derived")
        assert replace(entry, correction=None) == v1.table.tensors[name]


def test_correcting_again_gives_the_same(v1: SimpleNamespace, corrected: QuantTable) -> None:
    assert correct_biases(v1.model, corrected, v1.images) == corrected


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
    few = correct_biases(v1.model, v1.table, v1.images)
    assert few == correct_biases(v1.model, v1.table, v1.images[:5])
