"""Learned rounding: layers answer more exactly than with every weight at its nearest integer."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from calibrated_networks import calibrated_network

from rexnet_export.pipeline.core.progress import Silent, Told
from rexnet_export.quantization.learned import adaround
from rexnet_export.quantization.learned.adaround import Moments, learn_rounding, rounded_otherwise
from rexnet_export.quantization.learned.fake_quant import FakeQuantNetwork
from rexnet_export.quantization.learned.torch_graph import steps
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.table.table import QuantTable, TensorEntry
from rexnet_export.quantization.table.table_file import parse_table, table_text


@pytest.fixture(scope="module", params=["v1", "lite"])
def tiny(request: pytest.FixtureRequest) -> SimpleNamespace:
    found = calibrated_network(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaround, "ROUNDS", 50)  # a quarter of the time, and nearly all of the gain
        found.learned = learn_rounding(found.model, found.table, found.images, Silent())
    return found


def layer_errors(tiny: SimpleNamespace, table: QuantTable) -> dict[str, float]:
    """Mean squared error of every layer's output, on what the learned network hands it."""
    network, learned = (FakeQuantNetwork(tiny.model, each) for each in (table, tiny.learned))
    pixels, errors = torch.from_numpy(tiny.images), {}
    with torch.no_grad():
        real, values = {"image": pixels}, learned.activations(pixels)
        for step in network.steps:
            real[step.output] = network.float_output(step, real)
            if step.parameters:
                found = step.compute(values[step.inputs[0]], *map(network.stored, step.parameters))
                errors[step.output] = float((real[step.output] - found).square().mean())
    return errors


def test_layers_err_less_than_with_the_nearest_integers(tiny: SimpleNamespace) -> None:
    plain = {name: replace(entry, rounding=None) for name, entry in tiny.learned.tensors.items()}
    nearest, learned = (layer_errors(tiny, each) for each in (replace(tiny.learned, tensors=plain), tiny.learned))
    ratios = np.array([learned[name] / nearest[name] for name in nearest])
    assert np.exp(np.log(ratios).mean()) < 0.97
    assert (ratios < 1.02).all()


def test_only_rounding_changes(tiny: SimpleNamespace) -> None:
    plain = {name: replace(e, rounding=None) for name, e in tiny.learned.tensors.items()}
    assert replace(tiny.learned, tensors=plain) == tiny.table
    constants = view(tiny.model).constants
    for name, entry in tiny.table.tensors.items():
        if entry.decision == "weights":
            integers, nearest = (each.integers(name, constants[name]) for each in (tiny.learned, tiny.table))
            assert np.abs(integers - nearest).max() <= 1, name
            assert np.abs(integers).max() <= 127, name


def test_the_result_is_determined_and_survives_the_file(tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaround, "ROUNDS", 30)  # what is determined after 30 is after 200
    first, again = (learn_rounding(tiny.model, before, tiny.images, Silent()) for before in (tiny.table, tiny.learned))
    assert again == first
    assert first not in (tiny.table, tiny.learned)
    assert parse_table(table_text(again)) == again


def test_the_choice_is_near_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(0, 1, (200, 8)) @ rng.normal(0, 1, (8, 8)))
    covariance = (inputs.T @ inputs / len(inputs)).unsqueeze(0)
    weight = torch.from_numpy(rng.normal(0, 20, (6, 8)).clip(-120, 120).astype(np.float32))
    moments = Moments(inputs=covariance, with_error=torch.zeros(1, 6, 8, dtype=torch.float64))
    scale = torch.ones(6, 1, dtype=torch.float64)
    otherwise = rounded_otherwise(moments, weight, scale)

    def cost(row: int, integers: torch.Tensor) -> float:
        change = integers.double() - weight[row].double()
        return float(change @ covariance[0] @ change)

    nearest = weight.round()
    other = torch.where(weight > nearest, nearest + 1, nearest - 1)
    learned = torch.where(otherwise, other, nearest)
    costs = []
    for row in range(len(weight)):
        every = [
            torch.where(torch.tensor(up), weight[row].ceil(), weight[row].floor())
            for up in product((False, True), repeat=8)
        ]
        costs.append((cost(row, nearest[row]), cost(row, learned[row]), min(cost(row, each) for each in every)))
    by_nearest, by_learning, best = np.array(costs).T
    assert (by_learning <= by_nearest + 1e-9).all()
    assert by_learning.sum() - best.sum() < 0.3 * (by_nearest.sum() - best.sum())


def test_missing_output_is_made_up_for() -> None:
    weight, scale = torch.tensor([[10.4, 10.0]]), torch.ones(1, 1, dtype=torch.float64)
    covariance = torch.eye(2, dtype=torch.float64).unsqueeze(0)
    for error, expected in ((0.0, [False, False]), (0.3, [True, False])):
        with_error = torch.tensor([[[error, error]]], dtype=torch.float64)
        found = rounded_otherwise(Moments(inputs=covariance, with_error=with_error), weight, scale)
        assert found.tolist() == [expected], error


@pytest.mark.parametrize(("unit", "power"), [(0.5, 1.0), (4.0, 1e6), (1.0, 1e-6)])
def test_the_choice_does_not_depend_on_units(unit: float, power: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of weights and their scales, and of what the layer reads."""
    monkeypatch.setattr(adaround, "ROUNDS", 20)
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(0, 1, (200, 8)) @ rng.normal(0, 1, (8, 8)))
    square = (inputs.T @ inputs / len(inputs)).unsqueeze(0)
    weight = torch.from_numpy(rng.normal(0, 20, (6, 8)).clip(-120, 120))
    error = torch.from_numpy(rng.normal(0, 1, (1, 6, 8)))
    found = [
        rounded_otherwise(
            Moments(inputs=p * square, with_error=p * u * error), u * weight, torch.full((6, 1), u).double()
        )
        for u, p in ((1.0, 1.0), (unit, power))
    ]
    assert torch.equal(*found)
    assert 0 < found[0].sum() < found[0].numel()


def test_no_weight_is_rounded_beyond_127() -> None:
    """A scale in float16 may leave it an odd bit more; what is missing there would have it go on."""
    weight = torch.tensor([[127 + 1e-6, -127 - 1e-6]], dtype=torch.float64)
    moments = Moments(
        inputs=torch.eye(2, dtype=torch.float64).unsqueeze(0),
        with_error=torch.tensor([[[1.0, -1.0]]], dtype=torch.float64),
    )
    assert rounded_otherwise(moments, weight, torch.ones(1, 1, dtype=torch.float64)).tolist() == [[False, False]]


def test_between_two_integers_that_are_as_good_the_even_one_stays() -> None:
    moments = Moments(
        inputs=torch.ones(1, 1, 1, dtype=torch.float64), with_error=torch.zeros(1, 1, 1, dtype=torch.float64)
    )
    assert not rounded_otherwise(moments, torch.tensor([[10.5]]), torch.ones(1, 1, dtype=torch.float64)).any()


def test_the_soft_choice_follows_the_gradient_of_the_error_and_later_of_indecision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 steps of Adam at 0.05; after a fifth, 0.2 (1 - |2 up - 1|^b) is added, with b falling from 20 to 2."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Noted(torch.optim.Adam):
        def step(self) -> None:  # type: ignore[override]
            (group,) = self.param_groups
            (soft,) = group["params"]
            assert group["lr"] == 0.05
            seen.append((soft.detach().clone(), soft.grad.clone()))
            super().step()

    monkeypatch.setattr(torch.optim, "Adam", Noted)
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(5, 5, generator=generator)
    inputs = (mixed @ mixed.T).unsqueeze(0)
    fraction, error = torch.rand(1, 3, 5, generator=generator), torch.randn(1, 3, 5, generator=generator)
    chosen = adaround._optimised(inputs, error, fraction)
    assert set(chosen.unique().tolist()) <= {0.0, 1.0}
    assert len(seen) == 200

    def loss(soft: torch.Tensor, count: int) -> torch.Tensor:
        up = (1.2 * torch.sigmoid(soft) - 0.1).clamp(0, 1)
        change = up - fraction
        found = ((change @ inputs) * change - 2 * error * change).sum()
        progress = (count / 200 - 0.2) / 0.8
        if progress > 0:
            found = found + 0.2 * (1 - (2 * up - 1).abs() ** (20 - 18 * progress)).sum()
        return found

    np.testing.assert_allclose(1.2 * torch.sigmoid(seen[0][0]) - 0.1, fraction, rtol=1e-5, atol=1e-6)
    for count in (0, 20, 40, 41, 100, 199):
        soft, gradient = seen[count]
        soft.requires_grad_()
        (expected,) = torch.autograd.grad(loss(soft, count), soft)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5, err_msg=str(count))


@pytest.mark.parametrize(("fraction", "turned"), [(0.5 + 0.25e-4, 0.0), (0.5 + 0.75e-4, 1.0), (0.9, 1.0)])
def test_a_turn_must_help_by_more_than_float32_mistakes(fraction: float, turned: float) -> None:
    one = torch.ones(1, 1, 1)
    assert adaround._descended(0 * one, one, 0 * one, fraction * one).tolist() == [[[turned]]]


CONV = """<ir_version: 10, opset_import: ["": 21]>
    layer (float[n, 4, 5, 5] x) => (float y) <float[6] bias = {0, 0, 0, 0, 0, 0}> {
        y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2], dilations = [1, 1], group = 2>
            (x, weight, bias)
    }"""
GEMM = """<ir_version: 10, opset_import: ["": 21]>
    layer (float[n, 4] x) => (float y) <float[6] bias = {0, 0, 0, 0, 0, 0}> {
        y = Gemm <transB = 1> (x, weight, bias)
    }"""


@pytest.mark.parametrize("images", [3, 16, 17, 40])
@pytest.mark.parametrize(("text", "weights", "shape"), [(CONV, (6, 2, 3, 3), (4, 5, 5)), (GEMM, (6, 4), (4,))])
def test_moments_are_those_of_all_that_the_layers_weights_are_multiplied_with(
    text: str, weights: tuple[int, ...], shape: tuple[int, ...], images: int
) -> None:
    """The squared error of changed weights, from the moments and from the outputs themselves."""
    rng = np.random.default_rng(images)
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(weights, np.float32), "weight"))
    (step,) = steps(view(model))
    source = torch.from_numpy(rng.normal(size=(images, *shape)).astype(np.float32))
    change = torch.from_numpy(rng.normal(size=weights).astype(np.float32))
    effect = step.compute(source, change, torch.zeros(6))
    error = torch.from_numpy(rng.normal(size=effect.shape).astype(np.float32))
    pieces = list(adaround._patches(step, source, error, change))
    assert [len(piece.reshape(len(piece), -1, effect[0, 0].numel(), piece.shape[2])[0]) for piece, _ in pieces] == [
        min(16, images - first) for first in range(0, images, 16)
    ]
    moments = adaround._moments(step, source, error, change)
    groups = len(moments.inputs)
    delta = change.double().reshape(groups, 6 // groups, -1)
    count = effect.numel() // 6
    kept = count / (count + delta.shape[2])
    cross = float((moments.with_error * delta).sum())
    assert cross == pytest.approx(kept * float((effect.double() * error).sum()) / count, rel=1e-4)
    square = float(((delta @ moments.inputs) * delta).sum())
    diagonal = float((delta**2 @ moments.inputs.diagonal(dim1=1, dim2=2).unsqueeze(2)).sum())
    assert square == pytest.approx(
        diagonal + kept * (float(effect.double().square().sum()) / count - diagonal), rel=1e-4
    )


def test_every_layer_is_told_and_a_million_pixels_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked, told = calibrated_network("lite"), [], []

    def within(images: np.ndarray, pixels: int) -> np.ndarray:
        asked.append(pixels)
        return images[:1]

    monkeypatch.setattr(adaround, "within", within)
    monkeypatch.setattr(adaround, "ROUNDS", 1)
    learn_rounding(found.model, found.table, found.images, Told(told.append))
    assert asked == [2**20]
    assert (told[0].done, told[-1].done) == (0, told[-1].total)
    assert [step.done for step in told] == list(range(told[-1].total + 1))


def test_a_layer_in_float_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaround, "ROUNDS", 1)
    found = calibrated_network("lite")
    kept = {name: TensorEntry(decision="float", reason="asked for") for name in ("logits.weight", "logits.bias")}
    table = replace(found.table, tensors={**found.table.tensors, **kept})
    learned = learn_rounding(found.model, table, found.images[:1], Silent())
    assert {name: learned.tensors[name] for name in kept} == kept
    assert any(entry.rounding for entry in learned.tensors.values())


@pytest.mark.parametrize("seed", range(5))
def test_no_single_turn_helps_any_more(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    inputs = (mixed @ mixed.T).unsqueeze(0)
    fraction = torch.rand(1, 3, 8, generator=generator, dtype=torch.float64)
    error = torch.randn(1, 3, 8, generator=generator, dtype=torch.float64)
    start = (torch.rand(1, 3, 8, generator=generator) > 0.5).double()
    found = adaround._descended(start, inputs, error, fraction)

    def loss(up: torch.Tensor) -> torch.Tensor:
        change = up - fraction
        return ((change @ inputs) * change - 2 * error * change).sum(2)

    assert set(found.unique().tolist()) <= {0.0, 1.0}
    assert (loss(found) <= loss(start)).all()
    for index in range(8):
        turned = found.clone()
        turned[..., index] = 1 - turned[..., index]
        assert (loss(turned) >= loss(found) - 1e-4).all()
