"""The random-network study: ranks that are known, options that matter, results that repeat."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rexnet_export.apps.study.rank.claims import claims, distance
from rexnet_export.apps.study.rank.protocol_sensitivity import sensitivity
from rexnet_export.apps.study.rank.random_layers import KINDS, Point, Protocol, rank_ratios, ranks, study
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.model.published import RANK_RATIOS

CPU = torch.device("cpu")
SMALL = Protocol(networks=10, ratios=(0.2, 0.5), widths=(30, 40))


def by_cell(points: tuple[Point, ...]) -> dict[tuple[str, str, float], Point]:
    return {(p.kind, p.nonlinearity, p.ratio): p for p in points}


@pytest.fixture(scope="module")
def points() -> tuple[Point, ...]:
    return study(SMALL, Silent())


def test_rank_of_known_matrices() -> None:
    random = torch.Generator().manual_seed(0)
    low = torch.randn(3, 20, 7, generator=random) @ torch.randn(3, 7, 60, generator=random)
    assert ranks(low, None).tolist() == [7, 7, 7]
    scaled = torch.diag(torch.tensor([1.0, 0.5, 2e-3, 5e-4]))
    assert ranks(scaled, 1e-3).item() == 3
    assert ranks(scaled, 1e-4).item() == 4


@pytest.mark.parametrize("tolerance", [None, 1e-3])
def test_rank_agrees_with_singular_values(tolerance: float | None) -> None:
    features = torch.randn(4, 24, 50, generator=torch.Generator().manual_seed(1)).abs()
    limit = 50 * np.finfo(np.float32).eps if tolerance is None else tolerance
    singular = np.linalg.svd(features.double().numpy(), compute_uv=False)
    assert ranks(features, tolerance).tolist() == (singular > limit * singular[:, :1]).sum(1).tolist()


def test_linear_networks_have_the_rank_of_their_input(points: tuple[Point, ...]) -> None:
    cells = by_cell(points)
    for kind in KINDS:
        for ratio in SMALL.ratios:
            # Hidden layers narrower than the input cost a bottleneck nothing: the shortcut brings the input.
            assert cells[kind, "linear", ratio].rank_ratio == pytest.approx(ratio, abs=0.02)


def test_paired_sizes(points: tuple[Point, ...]) -> None:
    cells = by_cell(points)
    single, bottleneck = (cells[kind, "linear", 0.5].batches for kind in ("conv1x1", "bottleneck-depthwise"))
    assert single == pytest.approx(bottleneck, abs=0.05)


def test_repeats_whatever_else_is_studied(points: tuple[Point, ...]) -> None:
    fewer = study(replace(SMALL, kinds=("bottleneck-depthwise",), ratios=(0.5,)), Silent())
    assert fewer == tuple(p for p in points if p.kind == "bottleneck-depthwise" and p.ratio == 0.5)
    assert study(replace(SMALL, seed=1), Silent()) != points


def test_standard_error_shrinks_and_networks_count() -> None:
    protocol = replace(SMALL, kinds=("conv1x1",), nonlinearities=("relu",), ratios=(0.5,), networks=13)
    few, many = study(protocol, Silent()), study(replace(protocol, networks=103), Silent())
    assert (few[0].networks, many[0].networks) == (13, 103)
    assert 0 < many[0].standard_error < few[0].standard_error


@pytest.mark.parametrize(
    ("changed", "kind", "changes"),
    [
        pytest.param({"inputs": "normal"}, "conv1x1", True, id="inputs"),
        pytest.param({"order": "bn-f"}, "conv1x1", True, id="order"),
        pytest.param({"tolerance": 1e-2}, "conv1x1", True, id="tolerance"),
        pytest.param({"expansion": (6.0, 6.0)}, "bottleneck-conv", True, id="expansion"),
        pytest.param({"expansion": (6.0, 6.0)}, "conv1x1", False, id="no expansion in single layers"),
        pytest.param({"pixels": 4}, "conv3x3", True, id="pixels"),
    ],
)
def test_options_reach_the_networks(changed: dict[str, object], kind: str, *, changes: bool) -> None:
    base = replace(SMALL, nonlinearities=("relu", "silu"))
    before = rank_ratios(base, kind, 0.2, 0, 5, CPU)
    after = rank_ratios(replace(base, **changed), kind, 0.2, 0, 5, CPU)
    assert bool((before != after).any()) == changes


def test_three_by_three_on_maps_reaches_neighbours() -> None:
    """A linear 3x3 layer sees nine times its channels; depthwise, every channel sees only its own neighbours."""
    linear = replace(SMALL, nonlinearities=("linear",), pixels=6, columns=6.0)
    assert rank_ratios(linear, "conv3x3", 0.2, 0, 5, CPU).min() == 1
    assert rank_ratios(linear, "conv1x1", 0.2, 0, 5, CPU).max() < 0.25


def test_claims_of_the_published_figure_hold() -> None:
    """Judged on the published values themselves, every claim holds where Figure 1 separates the curves."""
    points = tuple(
        Point(kind=k, nonlinearity=f, ratio=r, rank_ratio=v, standard_error=0.0, networks=1, batches=(v,))
        for k, curves in RANK_RATIOS.items()
        for f, curve in curves.items()
        for r, v in curve.items()
    )
    judged = claims(points)
    assert [claim.verdict for claim in judged] == ["reproduced"] * 6, [c.against for c in judged]
    assert judged[4].compared == 42
    assert distance(points) == 0


def test_claims_see_a_reversal(points: tuple[Point, ...]) -> None:
    swap = {"relu": "silu", "silu": "relu"}
    reversed_points = tuple(replace(p, nonlinearity=swap.get(p.nonlinearity, p.nonlinearity)) for p in points)
    before, after = claims(points)[0], claims(reversed_points)[0]
    assert before.holds > after.holds
    assert any("silu" in line for line in after.against)


@pytest.mark.parametrize("nonlinearity", ["elu", "softplus", "hard-swish", "silu", "relu", "relu6"])
def test_plateau_is_judged_of_every_nonlinearity_it_names(points: tuple[Point, ...], nonlinearity: str) -> None:
    clipped = nonlinearity.startswith("relu")
    point = replace(
        points[0], kind="conv1x1", nonlinearity=nonlinearity, ratio=0.9, rank_ratio=0.99 if clipped else 0.9
    )
    plateau = claims([point])[2]
    assert (plateau.holds, plateau.compared) == (0, 1)
    assert nonlinearity in plateau.against[0]


def test_claims_without_points_are_not_judged() -> None:
    only = study(replace(SMALL, kinds=("conv1x1",), nonlinearities=("relu",), ratios=(0.5,)), Silent())
    assert {claim.verdict for claim in claims(only)} == {"not judged"}


def test_sensitivity_changes_one_choice_at_a_time() -> None:
    found = sensitivity(replace(SMALL, kinds=("conv1x1",), nonlinearities=("relu", "silu"), order="bn-f"), 5, Silent())
    names = [variation.choice for variation in found]
    assert names[0] == "as above"
    assert "f then BatchNorm" in names
    assert "BatchNorm then f" not in names
    assert all(variation.distance is not None for variation in found)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ratios": (0.5, 0.0)}, "--ratios 0.0: must be above 0"),
        ({"ratios": (1.1,)}, "--ratios 1.1"),
        ({"ratios": (float("nan"),)}, "--ratios nan"),
        ({"nonlinearities": ("relu", "gelu")}, "--nonlinearities 'gelu': known are linear, relu,"),
        ({"kinds": ("conv5x5",)}, "--kinds 'conv5x5'"),
        ({"inputs": "cauchy"}, "--inputs 'cauchy'"),
        ({"order": "f-f"}, "--order 'f-f'"),
        ({"networks": 0}, "--networks 0"),
        ({"tolerance": 1e-9}, "--tolerance 1e-09: must be from 1e-06"),
        ({"widths": (9, 3)}, "--widths (9, 3)"),
        ({"expansion": (0.0, 0.0)}, "--expansion"),
        ({"columns": 1.0}, "--columns 1.0"),
        ({"pixels": 0}, "--pixels 0"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_refusals(changed: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=None) as caught:
        replace(SMALL, **changed)
    assert said in str(caught.value)
