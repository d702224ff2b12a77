"""The channel search's space: limits kept, shapes varied, refusals clear."""

import pytest

from rexnet_export.apps.study.common.bottleneck_network import BottleneckNetwork
from rexnet_export.apps.study.search.channel_space import Space, configurations, cost, linearity, plan_of
from rexnet_export.pipeline.core.errors import UsageError

NEAR = 0.9

SPACE = Space(blocks=5, parameters=120_000, macs=6_000_000, image_size=16, classes=10)


def test_configurations_keep_the_limits_and_never_fall() -> None:
    found = configurations(SPACE, 40, seed=3)
    assert len(set(found)) == 40
    for channels in found:
        assert list(channels) == sorted(channels)
        assert channels[0] < channels[-1]
        used = cost(SPACE, channels)
        assert used.parameters <= SPACE.parameters
        assert used.macs <= SPACE.macs
        assert used.parameters >= NEAR * SPACE.parameters or used.macs >= NEAR * SPACE.macs
    assert found == configurations(SPACE, 40, seed=3)
    assert found[:10] == configurations(SPACE, 10, seed=3)
    assert found != configurations(SPACE, 40, seed=4)


def test_shapes_are_both_straight_and_bent() -> None:
    lines = [linearity(channels) for channels in configurations(SPACE, 60, seed=0)]
    assert max(lines) > 0.999
    assert min(lines) < 0.7


def test_linearity_of_known_configurations() -> None:
    assert linearity((10, 20, 30, 40)) == pytest.approx(1)
    assert linearity((36, 36, 36, 36, 83)) == pytest.approx(0.5)


def test_cost_is_the_networks() -> None:
    channels = configurations(SPACE, 1, seed=0)[0]
    network = BottleneckNetwork(plan_of(SPACE, channels))
    assert cost(SPACE, channels).parameters == sum(p.numel() for p in network.parameters())
    assert [block.outputs for block in network.plan.blocks] == list(channels)
    assert sum(block.stride == 2 for block in network.plan.blocks) == 2


def test_budget_no_configuration_can_meet() -> None:
    tight = Space(blocks=5, parameters=5_000, macs=6_000_000, image_size=16, classes=10)
    with pytest.raises(
        UsageError, match="--parameters 5000 and --macs 6000000: no configuration is so small; 5 blocks"
    ):
        configurations(tight, 1, seed=0)


def test_more_configurations_than_there_are() -> None:
    three = Space(blocks=3, parameters=14_000, macs=10**9, image_size=16, classes=10)
    with pytest.raises(UsageError, match="--configurations 300: only "):
        configurations(three, 300, seed=0)


@pytest.mark.parametrize(("name", "value"), [("blocks", 2), ("parameters", 0), ("macs", 0), ("image_size", 4)])
def test_refused_spaces(name: str, value: int) -> None:
    values = {"blocks": 5, "parameters": 10, "macs": 10, "image_size": 16, "classes": 10, name: value}
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} {value}"):
        Space(**values)
