"""Which parameters decay and how far they learn, and the average that a training keeps of its weights."""

import pytest
import torch
from random_networks import random_network

from rexnet_export.apps.train.optimizer import averaging, parameter_groups


@pytest.mark.parametrize(
    ("decay", "count", "share"),
    [(0.999, 0, 0.9), (0.999, 2, 0.75), (0.999, 8, 0.5), (0.999, 80, 0.1), (0.5, 7, 9 / 17), (0.5, 80, 0.5)],
)
def test_the_average_takes_the_ninth_part_of_ten_more_than_it_has_seen_until_its_decay(
    decay: float, count: int, share: float
) -> None:
    average, steps = torch.zeros(3), torch.tensor(1)
    averaging(decay)([average, steps], [torch.ones(3), torch.tensor(5)], torch.tensor(count))
    assert average.tolist() == pytest.approx([share] * 3)
    assert steps == 5  # counters are copied


def test_kernels_decay_and_scales_and_biases_do_not() -> None:
    network = random_network("v1", 0.25)
    decaying, plain = parameter_groups(network, 0.25)
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.25, 0.0)
    assert {parameter.ndim for parameter in decaying["params"]} == {2, 4}
    assert {parameter.ndim for parameter in plain["params"]} == {1}
    assert len(decaying["params"]) + len(plain["params"]) == len(list(network.parameters()))


def test_a_layer_learns_less_the_further_it_lies_below_the_head() -> None:
    network = random_network("v1", 0.25)
    scales = {id(p): group["scale"] for group in parameter_groups(network, 0.0, 0.5) for p in group["params"]}
    layers = len(network.features)
    assert {scales[id(p)] for p in network.head.parameters()} == {1.0}
    assert {scales[id(p)] for p in network.features[-1].parameters()} == {0.5}
    assert {scales[id(p)] for p in network.features[0].parameters()} == {0.5**layers}
    assert {scales[id(p)] for p in network.stem.parameters()} == {0.5 ** (layers + 1)}
