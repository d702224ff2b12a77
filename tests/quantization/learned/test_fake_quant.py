"""The quantized network in torch: what ONNX Runtime computes from the QDQ graph, and gradients."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from calibrated_networks import calibrated_network
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.learned.fake_quant import (
    FakeQuantNetwork,
    _power_of_two,
    _RoundParameter,
    fake_quantize,
)
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.rounding_mask import mask_text
from rexnet_export.quantization.table.table import QuantTable, TensorEntry


@pytest.fixture(scope="module", params=["v1", "lite", "r"])
def tiny(request: pytest.FixtureRequest) -> SimpleNamespace:
    return calibrated_network(request.param)


def integers(model: onnx.ModelProto, table: QuantTable, images: NDArray[np.uint8]) -> dict[str, NDArray[np.int8]]:
    """Every INT8 activation as ONNX Runtime computes it, without optimizations."""
    import onnxruntime  # noqa: PLC0415

    quantized = insert_qdq(model, table)
    names = [f"{name}.q" for name in table.tensors if any(f"{name}.q" in n.output for n in quantized.graph.node)]
    del quantized.graph.output[:]
    quantized.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(quantized.SerializeToString(), options, ["CPUExecutionProvider"])
    return dict(zip((name.removesuffix(".q") for name in names), session.run(names, {"image": images}), strict=True))


@torch.no_grad()
def assert_same(model: onnx.ModelProto, table: QuantTable, images: NDArray[np.uint8]) -> None:
    """Each step on what ONNX Runtime computed before it; another order of summation may turn a tie, by one integer."""
    network, expected = FakeQuantNetwork(model, table), integers(model, table, images)
    activations = [name for name in table.tensors if name not in view(model).constants]
    assert expected.keys() == {name for name in activations if table.tensors[name].params}
    values = {"image": torch.from_numpy(images)}
    for step in network.steps:
        values[step.output] = network.run(step, values)
        if step.output in expected:
            params = table.tensors[step.output].params
            assert params is not None
            real = torch.from_numpy(params.dequantize(expected[step.output])).float()
            off = (values[step.output] - real).abs() / params.scale[0]
            assert off.max() < 1.001, step.output
            assert (off > 1e-3).float().mean() < 1e-3, step.output
            values[step.output] = real
    logits = network(torch.from_numpy(images))
    assert torch.equal(logits, network.activations(torch.from_numpy(images))["logits"])


def test_every_tensor_is_what_onnx_runtime_computes(tiny: SimpleNamespace) -> None:
    assert_same(tiny.model, tiny.table, tiny.images)


def test_learned_rounding_and_corrected_biases_are_run(tiny: SimpleNamespace) -> None:
    constants, rng = view(tiny.model).constants, np.random.default_rng(0)
    tensors = dict(tiny.table.tensors)
    for name, entry in tensors.items():
        if entry.decision == "weights":
            tensors[name] = replace(entry, rounding=mask_text(rng.random(constants[name].shape) < 0.3))
        elif entry.decision == "derived":
            tensors[name] = replace(entry, correction=tuple(rng.normal(0, 0.1, constants[name].shape).tolist()))
    assert_same(tiny.model, replace(tiny.table, tensors=tensors), tiny.images)


def test_a_tensor_kept_in_float_is_not_rounded(tiny: SimpleNamespace) -> None:
    tensors = dict(tiny.table.tensors)
    for name in ("logits", "logits.weight", "logits.bias"):
        tensors[name] = replace(tensors[name], decision="float", reason="asked for", params=None)
    network = FakeQuantNetwork(tiny.model, replace(tiny.table, tensors=tensors))
    real = view(tiny.model).constants["logits.weight"]
    assert np.array_equal(network.stored("logits.weight").detach().numpy(), real)
    logits = network(torch.from_numpy(tiny.images)).detach().numpy()
    scale = tiny.table.tensors["logits"].params.scale[0]
    assert np.abs(np.rint(logits / scale) - logits / scale).max() > 0.1
    network.follow()
    assert network.table.tensors["logits.weight"] == tensors["logits.weight"]


def test_rounding_passes_the_gradient_except_where_it_saturates() -> None:
    params = QuantParams(scale=(0.5,), zero_point=(-100,))  # -14 to 113.5
    real = torch.tensor([-14.3, -14.2, 0.3, 113.7, 113.8], requires_grad=True)
    rounded = fake_quantize(real, params)
    assert rounded.tolist() == [-14.0, -14.0, 0.5, 113.5, 113.5]
    rounded.backward(torch.arange(1.0, 6.0))
    assert real.grad is not None
    assert real.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0]


def test_every_parameter_gets_a_gradient(tiny: SimpleNamespace) -> None:
    network = FakeQuantNetwork(tiny.model, tiny.table)
    network(torch.from_numpy(tiny.images)).square().sum().backward()
    assert len(network.value) == len(network.parameter_names)
    for name, value in network.value.items():
        assert value.grad is not None, name
        assert value.grad.any(), name


def test_the_float_graph_comes_back_and_scales_follow_the_weights(tiny: SimpleNamespace) -> None:
    network = FakeQuantNetwork(tiny.model, tiny.table)
    assert network.model() == tiny.model
    network.follow()
    assert network.table == tiny.table
    before = tiny.table.tensors
    with torch.no_grad():
        network.value["stem:weight"].mul_(2)
    network.follow()
    after = network.table.tensors
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"stem.weight", "stem.bias"}
    assert after["stem.weight"].params is not None
    assert before["stem.weight"].params is not None
    assert np.array_equal(after["stem.weight"].params.scale, 2 * np.array(before["stem.weight"].params.scale))
    trained = view(network.model()).constants["stem.weight"]
    assert np.array_equal(trained, 2 * view(tiny.model).constants["stem.weight"])


def test_what_is_frozen_keeps_its_scales_and_rounding(tiny: SimpleNamespace) -> None:
    shape = view(tiny.model).constants["stem.weight"].shape
    rounded = replace(tiny.table.tensors["stem.weight"], rounding=mask_text(np.ones(shape, bool)))
    network = FakeQuantNetwork(tiny.model, replace(tiny.table, tensors={**tiny.table.tensors, "stem.weight": rounded}))
    network.freeze(["stem.weight"])
    with torch.no_grad():
        for value in network.value.values():
            value.mul_(0.7)
    network.follow()
    assert network.table.tensors["stem.weight"] == rounded
    assert network.table.tensors["logits.weight"] != tiny.table.tensors["logits.weight"]
    network(torch.from_numpy(tiny.images)).sum().backward()
    assert network.value["stem:weight"].grad is None


def test_weights_are_counted_in_units_of_their_channel(tiny: SimpleNamespace) -> None:
    network = FakeQuantNetwork(tiny.model, tiny.table)
    for name in network.parameter_names:
        if name.endswith(".weight"):
            largest = network.value[name.replace(".", ":")].detach().flatten(1).abs().amax(1)
            assert (largest[largest > 0] >= 0.5).all(), name
            assert (largest <= 1).all(), name


def test_biases_are_counted_in_about_an_eighth_of_their_outputs_range(tiny: SimpleNamespace) -> None:
    network = FakeQuantNetwork(tiny.model, tiny.table)
    for step in network.steps:
        if step.parameters:
            entry = tiny.table.tensors[step.output]
            params = entry.params or tiny.table.tensors[entry.source].params
            unit = float(network.get_buffer(f"{step.parameters[1].replace('.', ':')}:unit"))
            assert 255 * params.scale[0] / 8 < unit <= 255 * params.scale[0] / 4, step.output


def test_a_bias_of_a_layer_in_float_has_a_unit_of_its_own(tiny: SimpleNamespace) -> None:
    kept = {
        name: TensorEntry(decision="float", reason="asked for") for name in ("logits", "logits.weight", "logits.bias")
    }
    network = FakeQuantNetwork(tiny.model, replace(tiny.table, tensors={**tiny.table.tensors, **kept}))
    assert float(network.get_buffer("logits:bias:unit")) == 0.25  # the next power of two above an eighth


def test_units_are_the_next_power_of_two_and_one_for_what_is_dead() -> None:
    assert _power_of_two(torch.tensor([0.0, 0.3, 1.0, 3.0, 4.0])).tolist() == [1.0, 0.5, 2.0, 4.0, 8.0]


def test_weights_that_grew_beyond_their_scales_saturate_as_integers_do(tiny: SimpleNamespace) -> None:
    network = FakeQuantNetwork(tiny.model, tiny.table)
    with torch.no_grad():
        network.value["stem:weight"].mul_(4)
    params = tiny.table.tensors["stem.weight"].params
    expected = params.dequantize(params.quantize(4 * view(tiny.model).constants["stem.weight"].astype(np.float64)))
    assert np.array_equal(network.stored("stem.weight").detach().numpy(), expected.astype(np.float32))
    assert {-128, 127} <= set(np.rint(expected / np.reshape(params.scale, (-1, 1, 1, 1))).astype(int).ravel().tolist())


def test_a_bias_saturates_at_32_bits() -> None:
    real, scale = torch.tensor([4.0, -4.0, 1.0], requires_grad=True), torch.full((3,), 2.0**-30, dtype=torch.float64)
    stored = _RoundParameter.apply(real, scale, torch.zeros(()), 32)
    assert stored.tolist() == [2.0, -2.0, 1.0]  # 2^31 - 1 is 2^31 in float32
    stored.sum().backward()
    assert real.grad is not None
    assert real.grad.tolist() == [1.0, 1.0, 1.0]


def test_an_operator_without_a_form_in_torch_is_refused(tiny: SimpleNamespace) -> None:
    strange = onnx.ModelProto()
    strange.CopyFrom(tiny.model)
    strange.graph.node[-1].op_type = "Elu"
    with pytest.raises(ConversionError, match="Elu logits"):
        FakeQuantNetwork(strange, tiny.table)


def test_scales_are_no_part_of_what_is_saved(tiny: SimpleNamespace) -> None:
    saved = FakeQuantNetwork(tiny.model, tiny.table).state_dict()
    assert saved
    assert not [name for name in saved if name.endswith((":scale", ":shift"))]
