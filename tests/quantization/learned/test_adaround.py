"""Learned rounding: layers answer more exactly than with every weight at its nearest integer."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from calibrated_networks import calibrated_network

from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.quantization.learned import adaround
from rexnet_export.quantization.learned.adaround import Moments, learn_rounding, rounded_otherwise
from rexnet_export.quantization.learned.fake_quant import FakeQuantNetwork
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.quantization.table.table_file import parse_table, table_text


@pytest.fixture(scope="module", params=["v1", "lite"])
def tiny(request: pytest.FixtureRequest) -> SimpleNamespace:
    found = calibrated_network(request.param)
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
