"""The backbone in torch and as a graph, beside an independent implementation, and the table cut to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from random_networks import random_network

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.graph.float_tracer import float_trace
from rexnet_export.pipeline.graph.outputs import cut, tapped
from rexnet_export.pipeline.model.architecture import Variant, architecture
from rexnet_export.pipeline.model.backbone import Backbone, features
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.rewrites.narrow import narrowed
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.refit import refitted
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.rewrites import ChannelGrouping
from rexnet_export.quantization.table.table import Calibration

PREPROCESS = Preprocess(size=64)


@pytest.mark.parametrize("name", ["rexnet_100", "rexnetr_100"])
def test_the_outputs_are_timms(name: str) -> None:
    other = timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    variant: Variant = "r" if name.startswith("rexnetr") else "v1"
    ours = ReXNet(architecture(variant, 1.0)).eval()
    state = ours.state_dict()
    body = [key for key in state if not key.startswith(("head", "features.16"))]
    theirs = other.state_dict()
    assert [theirs[key].shape for key in theirs] == [state[key].shape for key in body]
    other.load_state_dict({key: state[mine] for key, mine in zip(theirs, body, strict=True)})
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = other(x), Backbone(ours).eval()(x)
    assert [info["reduction"] for info in other.feature_info.get_dicts()] == [f.stride for f in features(ours.spec)]
    for feature, mine, wanted in zip(features(ours.spec), found, expected, strict=True):
        assert mine.shape == (2, feature.channels, 64 // feature.stride, 64 // feature.stride)
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["v1", "lite", "r"])
def test_the_cut_graph_gives_what_torch_gives(variant: Variant, tmp_path: Path) -> None:
    network = random_network(variant, 0.5)
    outputs = features(network.spec)
    path = tmp_path / "cut.onnx"
    onnx.save(cut(float_graph(network, PREPROCESS), outputs), path)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESS.mean, PREPROCESS.std))
    with torch.inference_mode():
        wanted = Backbone(network).eval()((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std)
    found = float_trace(path).trace(images)
    for feature, values in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(found[feature.name], values, rtol=0, atol=1e-4 * float(values.abs().max()))
    assert not any(name.startswith(("penultimate", "logits", "pool")) for name in found)


def test_a_tapped_graph_gives_the_logits_first_and_the_features_unchanged() -> None:
    network = random_network("v1", 0.5)
    model, outputs = float_graph(network, PREPROCESS), features(network.spec)
    changed = tapped(model, outputs)
    onnx.checker.check_model(changed, full_check=True)
    assert [value.name for value in changed.graph.output] == ["logits", *(feature.name for feature in outputs)]
    assert list(changed.graph.node) == list(model.graph.node)


def test_a_graph_of_another_network_is_refused() -> None:
    network = random_network("v1", 0.5)
    stranger = replace(features(network.spec)[0], name="features.99.project")
    with pytest.raises(ConversionError, match=r"does not compute features\.99\.project"):
        cut(float_graph(network, PREPROCESS), [stranger])


def test_a_table_is_cut_like_its_graph(tmp_path: Path) -> None:
    network = random_network("v1", 0.5)
    whole, outputs = float_graph(network, PREPROCESS), features(network.spec)
    rewrites = [halves("features.1.expand", network), halves("penultimate", network)]
    with_head = apply(tapped(whole, outputs), rewrites)
    onnx.save(with_head, tmp_path / "whole.onnx")
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    calibration = Calibration(images_sha256="0" * 64, images=4, statistic="min-max", seed=0)
    statistics = observe(tmp_path / "whole.onnx", [images], observed_tensors(with_head))
    table = replace(decide(with_head, statistics, calibration), rewrites=tuple(rewrites))
    model = cut(whole, outputs)
    part = narrowed(table, model)
    assert part.rewrites == (rewrites[0],)
    assert all(part.tensors[name] == table.tensors[name] for name in part.tensors)
    assert table.tensors.keys() - part.tensors.keys() >= {"logits", "logits.weight", "pool"}
    assert refitted(apply(model, part.rewrites), part) == part


def halves(tensor: str, network: ReXNet) -> ChannelGrouping:
    channels = network.spec.penultimate if tensor == "penultimate" else network.spec.blocks[1].expanded
    return ChannelGrouping(tensor=tensor, order=tuple(range(channels)), sizes=(channels // 2, channels - channels // 2))
