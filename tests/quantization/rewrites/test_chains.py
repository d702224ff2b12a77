from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import onnx
import pytest
from random_networks import random_network

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.model.architecture import Variant
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.rewrites.chains import Chain, chains

RESIDUALS = ["features.0.project", "features.2.residual", "features.4.residual"]


def found(model: onnx.ModelProto) -> tuple[Chain, ...]:
    return chains(view(model))


def exported(variant: Variant, width: float, *, use_se: bool = True) -> onnx.ModelProto:
    return float_graph(random_network(variant, width, use_se=use_se), Preprocess(size=32))


MODELS = {
    "v1": partial(exported, "v1", 0.25),
    "r": partial(exported, "r", 0.25),
    "r without gates": partial(exported, "r", 0.25, use_se=False),
    "lite": partial(exported, "lite", 0.5),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_bottleneck_and_the_inside_of_every_gate_is_in_one_chain(name: str) -> None:
    model = MODELS[name]()
    gated = [chain for chain in found(model) if chain.gates]
    inner = [chain for chain in found(model) if any(name.endswith("squeeze.relu") for name in chain.tensors)]
    residual = [chain for chain in found(model) if chain not in gated and chain not in inner]
    assert len(gated) == len(inner) == (13 if name in {"v1", "r"} else 0)
    assert all(list(chain.tensors.values()) == [chain.channels] * 2 for chain in [*inner, *gated])
    assert [[node.op_type for node in chain.gates] for chain in gated] == [["Mul"]] * len(gated)
    members = [name for chain in residual for name in chain.tensors]
    projects = [node.output[0] for node in model.graph.node if node.name.endswith(".project")]
    assert len(projects) == 16
    assert sorted(name for name in members if name.endswith(".project")) == sorted(projects)
    assert sum(len(chain.producers) for chain in residual) == 16
    assert sum(len(chain.consumers) for chain in residual) == 16  # 15 expansions and the penultimate
    assert [chain.name for chain in residual][:3] == RESIDUALS


def test_a_bottleneck_added_to_a_clamped_tensor_is_left_alone() -> None:
    model = exported("lite", 0.25)  # so narrow that its first block has a residual, from the stem's ReLU6
    assert "features.0.residual" in {node.name for node in model.graph.node}
    assert not [chain for chain in found(model) if "features.0.project" in chain.tensors]


def test_a_chain_takes_over_leading_channels_and_is_named_by_its_widest_tensor(v1: SimpleNamespace) -> None:
    chain = next(chain for chain in found(v1.model) if "features.4.residual" in chain.tensors)
    widths = chain.tensors
    assert list(widths) == [
        "features.3.project",
        "features.4.project",
        "features.4.residual.pad",
        "features.4.residual",
    ]
    assert widths["features.3.project"] < widths["features.4.project"] == widths["features.4.residual.pad"]
    assert (chain.name, chain.channels) == ("features.4.residual", widths["features.4.residual"])
    assert [node.name for node in chain.consumers] == ["features.4.expand", "features.5.expand"]


WEIGHTS = """
    float[2, 2, 1, 1] v = {1, 2, 3, 4}, float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2, 1, 1, 1] each = {1, 2},
    float[2, 4, 1, 1] wide = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] b = {0, 0}, float[2] c = {0, 0}, float one = {1},
    float[1, 2, 1, 1] all = {1, 2},
    int64[8] behind = {0, 0, 0, 0, 0, 2, 0, 0}, int64[8] before = {0, 2, 0, 0, 0, 0, 0, 0},
    int64[8] around = {0, 0, 1, 1, 0, 0, 1, 1}, int64[8] less = {0, 0, 0, 0, 0, -1, 0, 0}
"""


def parsed(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18]>
        g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y) <{WEIGHTS}> {{ {body} }}"""
    )


@pytest.mark.parametrize(
    ("body", "tensors"),
    [
        ("t = Conv(x, v, b) y = Conv(t, w, c)", {"t": 2}),
        ("t = Conv(x, v, b) r = Relu(t) y = Conv(r, w)", {"t": 2, "r": 2}),
        ("t = Conv(x, v) p = Pad(t, behind) y = Conv(p, wide)", {"t": 2, "p": 4}),
        ('t = Conv(x, v) p = Pad<mode = "constant">(t, behind) y = Conv(p, wide)', {"t": 2, "p": 4}),
        ("t = Conv(x, v, b) s = Add(t, t) y = Conv(s, w, c)", {"t": 2, "s": 2}),
        ("t = Conv<group = 2>(x, each) y = Conv(t, w, c)", {"t": 2}),
        ("t = Conv(x, v) p = GlobalAveragePool(t) y = Conv(p, w)", {"t": 2, "p": 2}),
        ("t = Conv(x, v) p = Conv(t, w) g = Sigmoid(p) y = Mul(g, t)", {"t": 2}),
    ],
)
def test_what_keeps_a_factor_is_a_chain(body: str, tensors: dict[str, int]) -> None:
    (chain,) = found(parsed(body))
    assert chain.tensors == tensors


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("t = Conv(x, v, b) s = Sigmoid(t) y = Conv(s, w, c)", id="not homogeneous"),
        pytest.param("t = Conv(x, v, b) s = Sigmoid(t) m = Mul(t, s) y = Conv(m, w, c)", id="read by another operator"),
        pytest.param("t = Conv(x, v) p = Conv(t, w) y = Mul(p, t)", id="multiplied by no sigmoid"),
        pytest.param("t = Conv(x, v) p = Conv(t, w) g = Sigmoid(p) y = Mul(g, t) z = Relu(g)", id="a gate read twice"),
        pytest.param("t = Conv(x, v) p = Conv(t, all) g = Sigmoid(p) y = Mul(g, t)", id="one gate for all channels"),
        pytest.param("t = Conv(x, v) g = Sigmoid(x) y = Mul(g, t)", id="a gate of unknown width"),
        pytest.param("t = Conv(x, v, b) z = Clip(t, one) y = Conv(z, w, c)", id="a clamp"),
        pytest.param("t = Conv(x, v, b) s = Add(t, x) y = Conv(s, w, c)", id="added to the network's input"),
        pytest.param("t = Conv(x, v, b) s = Add(t, one) y = Conv(s, w, c)", id="added to a constant"),
        pytest.param("y = Conv(x, v, b) z = Conv(y, w, c)", id="an output of the network"),
        pytest.param("t = Conv(x, v, b) z = Relu(t)", id="read by nobody"),
        pytest.param("t = Conv(x, v, b) y = Conv(t, v, c)", id="shared weights"),
        pytest.param("t = Conv(x, v, b) y = Conv(t, w, b)", id="shared bias"),
        pytest.param("t = Conv(x, v, b) u = Relu(x) y = Conv(t, u)", id="computed weights"),
        pytest.param("t = Conv(x, v, b) y = Conv(x, t)", id="read as weights"),
        pytest.param("t = Conv(x, v, b) y = Conv<group = 2>(t, each)", id="read channel by channel"),
        pytest.param("t = Conv(x, v) p = Pad(t, before) y = Conv(p, wide)", id="padded ahead of the channels"),
        pytest.param("t = Conv(x, v) p = Pad(t, around) y = Conv(p, w)", id="padded in space"),
        pytest.param("t = Conv(x, v) p = Pad(t, less) y = Conv(p, w)", id="cropped"),
        pytest.param("t = Conv(x, v) p = Pad(t, behind, one) y = Conv(p, wide)", id="padded with something"),
        pytest.param('t = Conv(x, v) p = Pad<mode = "edge">(t, behind) y = Conv(p, wide)', id="padded with copies"),
    ],
)
def test_what_does_not_keep_a_factor_is_none(body: str) -> None:
    assert found(parsed(body)) == ()
