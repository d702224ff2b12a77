"""Folding changes how a network is computed, not what it gives, and leaves the network itself alone."""

import pytest
import torch
from random_networks import random_network
from torch import Tensor, nn

from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.model.architecture import Variant
from rexnet_export.pipeline.model.backbone import Backbone, named_outputs
from rexnet_export.pipeline.model.folded import folded
from rexnet_export.pipeline.model.torch_session import open_reference


def kinds(network: nn.Module) -> set[str]:
    return {type(module).__name__ for module in network.modules()}


def all_of(outputs: dict[str, Tensor]) -> list[Tensor]:
    return list(outputs.values())


@pytest.mark.parametrize("variant", ["v1", "lite", "r"])
def test_the_outputs_are_the_same_but_for_rounding(variant: Variant) -> None:
    network = random_network(variant, 0.5).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for subject in (network, Backbone(network).eval()):
        with torch.inference_mode():
            wanted, found = all_of(named_outputs(subject, x)), all_of(named_outputs(folded(subject), x))
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


def test_no_batchnorm_is_left_but_in_the_network_itself() -> None:
    network = random_network("v1", 0.5).train()
    assert "BatchNorm2d" not in kinds(folded(network))
    assert kinds(folded(folded(network))) == kinds(folded(network))
    assert network.training
    assert "BatchNorm2d" in kinds(network)


def test_the_reference_on_a_cpu_is_folded() -> None:
    session = open_reference(random_network("v1", 0.5), Preprocess(size=64), cuda=False)
    assert "BatchNorm2d" not in kinds(session.network)


@pytest.mark.parametrize("variant", ["v1", "lite"])
def test_activations_overwrite_what_they_are_given_in_the_copy_alone(variant: Variant) -> None:
    network = random_network(variant, 0.5)
    copy = folded(network)
    activations = (nn.SiLU, nn.ReLU6)
    assert all(module.inplace for module in copy.modules() if isinstance(module, activations))
    assert not any(module.inplace for module in network.modules() if isinstance(module, activations))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    with torch.inference_mode():
        first = all_of(named_outputs(copy, x))
        second = all_of(named_outputs(copy, x))
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
