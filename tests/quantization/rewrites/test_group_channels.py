"""Cutting channels into groups: the function stays, integers are only moved, and what cannot be cut is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.rewrites.group_channels import cut_tensors, group_channels
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.insert_qdq import Integers, insert_qdq
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.rewrites import ChannelGrouping
from rexnet_export.quantization.table.table import Calibration, QuantTable
from rexnet_export.quantization.table.table_file import parse_table, table_text

CALIBRATION = Calibration(images_sha256="0" * 64, images=12, statistic="min-max", seed=0)


@pytest.fixture(scope="session", params=["v1", "lite", "r"])
def variant(request: pytest.FixtureRequest) -> SimpleNamespace:
    found: SimpleNamespace = request.getfixturevalue(request.param)
    return found


def channels(model: onnx.ModelProto, tensor: str) -> int:
    return next(t.dims[0] for t in model.graph.initializer if t.name == f"{tensor}.weight")


def halves(model: onnx.ModelProto, tensor: str) -> ChannelGrouping:
    """Odd channels, then even ones."""
    count = channels(model, tensor)
    return ChannelGrouping(
        tensor=tensor,
        order=(*range(1, count, 2), *range(0, count, 2)),
        sizes=(count // 2, count - count // 2),
    )


def cuttable(model: onnx.ModelProto) -> list[str]:
    """A residual around the first block holds the stem's channels together."""
    names = [node.name for node in model.graph.node]
    ends = {"stem", "penultimate"} if "features.0.residual" not in names else {"penultimate"}
    return [name for name in names if name.endswith(".expand") or name in ends]


@st.composite
def groupings(draw: st.DrawFn, model: onnx.ModelProto) -> list[ChannelGrouping]:
    """Two to four groups of any sizes in any order, for some of the layers that can be cut."""
    found = []
    for name in draw(st.lists(st.sampled_from(cuttable(model)), min_size=1, max_size=4, unique=True)):
        count = channels(model, name)
        cuts = draw(st.lists(st.integers(1, count - 1), min_size=1, max_size=3, unique=True))
        sizes = np.diff([0, *sorted(cuts), count]).tolist()
        order = np.random.default_rng(draw(st.integers(0, 99))).permutation(count).tolist()
        found.append(ChannelGrouping(tensor=name, order=tuple(order), sizes=tuple(sizes)))
    return found


def logits(model: onnx.ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (values,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(["logits"], {"image": images})
    return values


@settings(max_examples=8)
@given(data=st.data())
def test_the_float_function_and_the_arithmetic_stay(variant: SimpleNamespace, data: st.DataObject) -> None:
    rewrites = data.draw(groupings(variant.model))
    grouped = apply(variant.model, rewrites)
    before, after = (logits(model, variant.images[:2]) for model in (variant.model, grouped))
    np.testing.assert_allclose(after, before, rtol=0, atol=2e-6 * np.abs(before).max())
    assert sorted(parameters(grouped)) == sorted(parameters(variant.model))
    names = [node.name for node in grouped.graph.node]
    assert names == [node.output[0] for node in grouped.graph.node]
    assert {t.name for t in grouped.graph.initializer} <= {name for node in grouped.graph.node for name in node.input}
    for rewrite in rewrites:
        assert rewrite.tensor not in names
        assert {f"{rewrite.tensor}.g{group}" for group in range(len(rewrite.sizes))} <= set(names)


def parameters(model: onnx.ModelProto) -> list[float]:
    arrays = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith((".weight", ".bias"))]
    return np.concatenate([array.ravel() for array in arrays]).tolist()


def test_every_tensor_of_a_block_is_cut_and_joined_where_channels_mix(v1: SimpleNamespace) -> None:
    rewrite = halves(v1.model, "features.3.expand")
    old, new = view(v1.model), view(group_channels(v1.model, rewrite))
    parts = {node.output[0] for node in new.nodes} - {node.output[0] for node in old.nodes}
    block = ("expand", "expand.sigmoid", "expand.silu", "depthwise", "pool", "excite", "gate", "gated", "relu6")
    assert parts == {f"features.3.{name}.g{group}" for name in block for group in (0, 1)}
    joins = {node.output[0]: list(node.input) for node in new.nodes if node.op_type == "Concat"}
    assert joins == {name: [f"{name}.g0", f"{name}.g1"] for name in ("features.3.pool", "features.3.relu6")}
    for kind in ("expand", "depthwise", "excite"):
        rows = old.constants[f"features.3.{kind}.weight"]
        np.testing.assert_array_equal(new.constants[f"features.3.{kind}.g0.weight"], rows[1::2])
        np.testing.assert_array_equal(new.constants[f"features.3.{kind}.g1.weight"], rows[0::2])
    for kind in ("squeeze", "project"):
        columns = old.constants[f"features.3.{kind}.weight"]
        np.testing.assert_array_equal(new.constants[f"features.3.{kind}.weight"], columns[:, list(rewrite.order)])


def test_the_classifier_reads_pooled_groups(v1: SimpleNamespace) -> None:
    rewrite = halves(v1.model, "penultimate")
    new = view(group_channels(v1.model, rewrite))
    assert [node.op_type for node in new.nodes[-3:]] == ["Concat", "Flatten", "Gemm"]
    assert list(new.nodes[-3].input) == ["pool.g0", "pool.g1"]
    columns = view(v1.model).constants["logits.weight"]
    np.testing.assert_array_equal(new.constants["logits.weight"], columns[:, list(rewrite.order)])


def test_a_groups_nodes_follow_each_other(v1: SimpleNamespace) -> None:
    names = [node.name for node in group_channels(v1.model, halves(v1.model, "features.1.expand")).graph.node]
    first = names.index("features.1.expand.g0")
    assert names[first : first + 6] == [
        *(f"features.1.{name}.g0" for name in ("expand", "expand.sigmoid", "expand.silu", "depthwise", "relu6")),
        "features.1.expand.g1",
    ]


def test_without_groupings_nothing_changes_and_the_same_gives_the_same_bytes(v1: SimpleNamespace) -> None:
    before = v1.model.SerializeToString(deterministic=True)
    assert apply(v1.model, ()).SerializeToString(deterministic=True) == before
    rewrites = [halves(v1.model, name) for name in ("stem", "features.3.expand")]
    first, second = (apply(v1.model, rewrites).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert v1.model.SerializeToString(deterministic=True) == before


def test_factors_in_front_of_a_gate_are_cut_too(v1: SimpleNamespace) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(v1.model)
    nodes = list(model.graph.node)
    (gated,) = (node for node in nodes if node.name == "features.3.gated")
    factors = np.linspace(0.5, 2.0, channels(model, "features.3.expand"), dtype=np.float32)[None, :, None, None]
    model.graph.initializer.append(numpy_helper.from_array(factors, "factors"))
    gated.input[1] = "features.3.gain"
    nodes.insert(nodes.index(gated), helper.make_node("Mul", ["features.3.gate", "factors"], ["features.3.gain"]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    grouped = group_channels(model, halves(model, "features.3.expand"))
    assert view(grouped).constants["features.3.gain.g0.factors"].shape == (
        1,
        channels(model, "features.3.expand") // 2,
        1,
        1,
    )
    before, after = (logits(each, v1.images[:2]) for each in (model, grouped))
    np.testing.assert_allclose(after, before, rtol=0, atol=2e-6 * np.abs(before).max())


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ("features.3.nothing", r"features\.3\.nothing is an end of the graph"),
        ("logits", r"logits is an end of the graph"),
        ("features.3.project", r"Pad features\.4\.residual\.pad is in the way"),
        ("features.2.project", r"(Add|Pad) features\.\d\.residual\S* is in the way"),
        ("features.3.depthwise", r"features\.3\.depthwise is made by Conv; name the convolution that expands"),
        ("features.3.expand.silu", r"features\.3\.expand\.silu is made by Mul"),
    ],
)
def test_what_cannot_be_cut_is_named(v1: SimpleNamespace, tensor: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        group_channels(v1.model, ChannelGrouping(tensor=tensor, order=(0, 1), sizes=(1, 1)))


def test_cutting_twice_is_refused(v1: SimpleNamespace) -> None:
    rewrite = halves(v1.model, "features.3.expand")
    again = ChannelGrouping(tensor="features.3.expand.g0", order=(0, 1), sizes=(1, 1))
    with pytest.raises(ConversionError, match=r"Concat features\.3\.\w+ is in the way"):
        group_channels(group_channels(v1.model, rewrite), again)


def test_an_order_of_other_channels_is_refused(v1: SimpleNamespace) -> None:
    with pytest.raises(ConversionError, match=r"order of stem must hold each of its \d+ channels once"):
        group_channels(v1.model, ChannelGrouping(tensor="stem", order=(0,), sizes=(1,)))


@pytest.mark.parametrize("order", [(0, 0), (1, 2)])
def test_an_order_that_is_no_permutation_is_no_grouping(order: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not a permutation of 0 to 1"):
        ChannelGrouping(tensor="stem", order=order, sizes=(1, 1))


@pytest.mark.parametrize("sizes", [(32,), (0, 32), (40, -8)])
def test_sizes_that_do_not_divide_the_channels_are_refused(v1: SimpleNamespace, sizes: tuple[int, ...]) -> None:
    order = tuple(range(channels(v1.model, "stem")))
    with pytest.raises(ConversionError, match=r"groups of .* do not divide them"):
        group_channels(v1.model, ChannelGrouping(tensor="stem", order=order, sizes=sizes))


@pytest.mark.parametrize("sizes", [(), (31, 2), (31,)])
def test_sizes_of_another_sum_are_no_grouping(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"sizes add up to {sum(sizes)}, not to the 32"):
        ChannelGrouping(tensor="stem", order=tuple(range(32)), sizes=sizes)


@pytest.fixture(scope="module")
def grouped(v1: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Everything that can be cut in halves, with its table."""
    model = apply(v1.model, [halves(v1.model, name) for name in cuttable(v1.model)])
    path = tmp_path_factory.mktemp("grouped") / "grouped.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    statistics = observe(path, [v1.images], observed_tensors(model))
    return SimpleNamespace(model=model, table=decide(model, statistics, CALIBRATION), images=v1.images)


def test_each_group_has_its_own_scales_and_what_is_joined_has_one(
    grouped: SimpleNamespace, v1: SimpleNamespace
) -> None:
    tensors, plain = grouped.table.tensors, v1.table.tensors
    for name in ("features.3.expand", "features.3.expand.silu", "features.3.depthwise", "penultimate.silu"):
        parts = [tensors[f"{name}.g{group}"] for group in (0, 1)]
        assert {part.decision for part in parts} == {"observed"}
        assert parts[0].params != parts[1].params
        low, high = (pick(part.observed[end] for part in parts) for end, pick in ((0, min), (1, max)))
        np.testing.assert_allclose((low, high), plain[name].observed, rtol=1e-5, atol=1e-6)
    for name in ("features.3.pool", "pool"):
        assert (tensors[name].decision, tensors[f"{name}.g0"].decision) == ("observed", "shared")
        assert {tensors[f"{name}.g{group}"].source for group in (0, 1)} == {name}
        assert tensors[f"{name}.g0"].params == tensors[f"{name}.g1"].params == tensors[name].params
        np.testing.assert_allclose(tensors[name].observed, plain[name].observed, rtol=1e-5, atol=1e-6)
    clamp = tensors["features.3.relu6"]
    assert (clamp.decision, clamp.source, clamp.params) == (
        "shared",
        "features.3.relu6.g0",
        plain["features.3.relu6"].params,
    )
    assert tensors["flatten"].params == tensors["pool"].params
    assert parse_table(table_text(grouped.table)) == grouped.table


def test_joining_moves_integers(grouped: SimpleNamespace) -> None:
    model = insert_qdq(grouped.model, grouped.table, "int8")
    names = ["features.3.relu6.g0.q", "features.3.relu6.g1.q", "features.3.relu6.q", "pool.g0.q", "pool.g1.q", "pool.q"]
    model.graph.output.extend(value for value in list(model.graph.value_info) if value.name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    found = dict(zip(names, session.run(names, {"image": grouped.images}), strict=True))
    for name in ("features.3.relu6", "pool"):
        joined = np.concatenate([found[f"{name}.g0.q"], found[f"{name}.g1.q"]], axis=1)
        np.testing.assert_array_equal(found[f"{name}.q"], joined)
        assert joined.dtype == np.int8
        assert len(np.unique(joined)) > 20


@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_onnx_runtime_computes_groups_in_integers(
    grouped: SimpleNamespace, activations: Integers, tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.add_session_config_entry("session.qdqisint8allowed", "1" if activations == "int8" else "0")
    model = insert_qdq(grouped.model, grouped.table, activations)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx")
    found = Counter(node.op_type for node in optimized.graph.node)
    wanted = Counter(node.op_type for node in grouped.model.graph.node)
    for op, fused in (("Conv", "QLinearConv"), ("Sigmoid", "QLinearSigmoid"), ("Mul", "QLinearMul"), ("Concat",) * 2):
        assert found[fused] == wanted[op]
    assert found["DequantizeLinear"] == (2 if activations == "int8" else 1)
    assert not found.keys() & {"Conv", "Mul", "Sigmoid", "GlobalAveragePool", "QLinearConcat"}


def test_a_table_whose_joined_tensors_differ_is_refused(grouped: SimpleNamespace) -> None:
    lines = table_text(grouped.table).splitlines()
    line = next(n for n, text in enumerate(lines) if text.startswith('"features.3.relu6.g1"'))
    lines[line] = lines[line].replace("-128", "-127")
    table: QuantTable = parse_table("\n".join(lines))
    with pytest.raises(
        ConversionError, match=r"features\.3\.relu6 and features\.3\.relu6\.g1 need the same parameters"
    ):
        insert_qdq(grouped.model, table)


def test_tensors_whose_scales_cannot_be_one_are_not_joined() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18]>
        joins (uint8[1, 4, 8, 8] image) => (float[1, 8, 8, 8] y)
        <float scale = {0.00390625}, uint8 zero = {0}>
        { x = DequantizeLinear(image, scale, zero) s = Sigmoid(x) m = Mul(s, s) y = Concat <axis = 1> (s, m) }"""
    )
    with pytest.raises(ConversionError, match=r"Concat  joins tensors whose scales cannot be made one"):
        observed_tensors(model)


def test_lite_needs_no_groups_but_can_have_them(lite: SimpleNamespace) -> None:
    cut = cut_tensors(view(lite.model), "features.3.expand")
    assert cut == {f"features.3.{name}" for name in ("expand", "expand.relu6", "depthwise", "relu6")}
