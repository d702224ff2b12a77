"""Networks of inverted bottlenecks: counted, matched in cost, stored."""

from pathlib import Path

import pytest
import torch
from torch import nn

from rexnet_export.apps.study.common.bottleneck_network import (
    BottleneckNetwork,
    Plan,
    cost_of,
    is_saved_network,
    load_network,
    mobilenet_v2,
    mobilenet_v2_of,
    save_network,
)
from rexnet_export.pipeline.core.errors import CheckpointError
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.model.architecture import Block


def small() -> Plan:
    blocks = (
        Block(inputs=8, expands=False, expanded=8, squeeze=0, outputs=9, stride=1),
        Block(inputs=9, expands=True, expanded=54, squeeze=0, outputs=13, stride=2),
        Block(inputs=13, expands=True, expanded=78, squeeze=0, outputs=20, stride=1),
    )
    return Plan(name="small", stem=8, stem_stride=1, blocks=blocks, penultimate=32, classes=3)


def test_mobilenet_v2_is_the_published_one() -> None:
    """3.4 M parameters and 300 M multiply-accumulates (Sandler et al., table 4); 3,504,872 is torchvision's count."""
    counted = cost_of(mobilenet_v2(1.0, 1000), 224)
    assert counted.parameters == 3_504_872
    assert counted.macs == pytest.approx(300e6, rel=0.005)


@pytest.mark.parametrize("plan", [small(), mobilenet_v2(0.35, 5)], ids=["small", "mobilenet"])
def test_arithmetic_is_what_the_network_does(plan: Plan) -> None:
    network, macs = BottleneckNetwork(plan).eval(), 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output[0].numel() * module.weight[0].numel()  # type: ignore[union-attr,operator,index]

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 40, 40)).shape == (1, plan.classes)
    counted = cost_of(plan, 40)
    assert counted.macs == macs
    assert counted.parameters == sum(p.numel() for p in network.parameters())


def test_control_costs_the_same() -> None:
    wanted = 33_358_112
    assert cost_of(mobilenet_v2_of(wanted, 64, 10), 64).macs == pytest.approx(wanted, rel=0.05)


def test_plain_blocks_add_only_equal_channels() -> None:
    plain = mobilenet_v2(1.0, 10).blocks
    assert sum(block.residual for block in plain) == 10
    assert [block.residual for block in small().blocks] == [True, False, True]


@pytest.mark.parametrize("plan", [small(), mobilenet_v2(0.2, 3)], ids=["small", "mobilenet"])
def test_stored_and_read_back(tmp_path: Path, plan: Plan) -> None:
    path = tmp_path / "net.safetensors"
    network = BottleneckNetwork(plan).eval()
    save_network(path, network, Preprocess(size=32), ("a", "b", "c"))
    assert is_saved_network(path)
    loaded, preprocess, labels = load_network(path)
    assert (loaded.plan, preprocess, labels) == (plan, Preprocess(size=32), ("a", "b", "c"))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(x), network(x))


def test_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_network(path, BottleneckNetwork(small()), Preprocess(size=32), ("a", "b", "c"))
    path.write_bytes(path.read_bytes()[:-100])
    assert not is_saved_network(path)
    with pytest.raises(CheckpointError, match="damaged"):
        load_network(path)
