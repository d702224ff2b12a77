"""Folded weights in a ReXNet: its float graph has them bit by bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import random_network

from rexnet_export.apps.train.refold import STEM, refolded
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.model.architecture import Variant
from rexnet_export.pipeline.model.conv_batchnorm import ConvBatchNorm
from rexnet_export.quantization.onnx.view import view

PREPROCESS = Preprocess(size=32)


@pytest.mark.parametrize("variant", ["v1", "lite", "r"])
def test_the_float_graph_has_the_weights_bit_by_bit(variant: Variant) -> None:
    network = random_network(variant, 0.25)
    before = view(float_graph(network, PREPROCESS)).constants
    rng = np.random.default_rng(0)
    trained = {
        name: rng.normal(0, 10.0 ** rng.integers(-4, 4), values.shape).astype(np.float32)
        for name, values in before.items()
        if name.endswith((".weight", ".bias")) and name not in STEM
    }
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    after = view(float_graph(refolded(network, trained), PREPROCESS)).constants
    for name, values in trained.items():
        assert np.array_equal(after[name], values), name
    assert all(np.array_equal(after[name], before[name]) for name in before.keys() - trained.keys())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=2.0**-100, max_value=2.0**100))
@settings(deadline=None)
def test_no_weight_is_changed_by_the_batch_norm_that_stands_for_the_bias(weight: float) -> None:
    norm = ConvBatchNorm(1, 1).bn
    variance = float(np.float32(1 - norm.eps))
    assert np.float32(np.float64(weight) / np.sqrt(variance + norm.eps)) == np.float32(weight)
