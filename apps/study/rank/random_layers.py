"""The rank study of the paper's section 3.2: how many of its output dimensions does a random layer really use?

A layer maps d_in to d_out channels; the rank of its features over N > d_out random inputs, divided by d_out, is
averaged over random networks. The paper leaves open what `Protocol` spells out; its defaults give Figure 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.machine.environment import usable_cores
from rexnet_export.pipeline.machine.torch_threads import torch_threads
from rexnet_export.pipeline.model.published import RANK_RATIOS, RATIOS

type Inputs = Literal["uniform", "normal", "signed-uniform"]
type Order = Literal["f", "f-bn", "bn-f"]
INPUTS: tuple[Inputs, ...] = get_args(Inputs.__value__)
ORDERS: tuple[Order, ...] = get_args(Order.__value__)
KINDS = tuple(RANK_RATIOS)
NONLINEARITIES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "linear": lambda x: x,
        "relu": functional.relu,
        "relu6": functional.relu6,
        "leaky-relu": functional.leaky_relu,  # slope 0.01
        "elu": functional.elu,
        "softplus": functional.softplus,
        "hard-swish": functional.hardswish,
        "silu": functional.silu,
    }
)
BATCH_NORM_EPS = 1e-5
BATCH = 5
# The eigenvalues of a float64 Gram matrix tell singular values apart down to about 1e-8 of the largest.
FINEST_TOLERANCE = 1e-6
SEEDS = 2**32
MASK = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is drawn and counted.

    `widths` bounds d_out and `expansion` the hidden channels over d_in of a bottleneck, both drawn uniformly, anew for
    every five networks. N is `columns` times d_out, made of maps of `pixels` x `pixels` (at 1 a 3x3 convolution sees
    its own pixel and padding). `order` is of BatchNorm and the nonlinearity f: "f" is an untrained network as it
    evaluates, whose BatchNorm is the identity; in the other two it normalises by the N features. `tolerance` counts
    singular values above that share of the largest; None is float32's max(d_out, N) * 2^-23.
    """

    kinds: tuple[str, ...] = KINDS
    nonlinearities: tuple[str, ...] = tuple(NONLINEARITIES)
    ratios: tuple[float, ...] = RATIOS
    networks: int = 1000
    seed: int = 0
    inputs: Inputs = "uniform"
    order: Order = "f"
    tolerance: float | None = None
    widths: tuple[int, int] = (60, 160)
    expansion: tuple[float, float] = (0.0, 5.0)
    columns: float = 3.0
    pixels: int = 1

    def __post_init__(self) -> None:
        """Refuse what no network could have."""
        _known("kinds", self.kinds, KINDS)
        _known("nonlinearities", self.nonlinearities, tuple(NONLINEARITIES))
        _known("inputs", (self.inputs,), INPUTS)
        _known("order", (self.order,), ORDERS)
        outside = [ratio for ratio in self.ratios if not 0 < ratio <= 1]
        _require("ratios", outside[0] if outside else "", "above 0 and at most 1", bool(self.ratios) and not outside)
        _require("networks", self.networks, "at least 1", self.networks >= 1)
        _require("seed", self.seed, f"from 0 to {SEEDS - 1}", 0 <= self.seed < SEEDS)
        finest = self.tolerance is None or FINEST_TOLERANCE <= self.tolerance < 1
        _require("tolerance", self.tolerance, f"from {FINEST_TOLERANCE:g} to below 1", finest)
        _require("widths", self.widths, "two numbers from 2 up, the lower first", 2 <= self.widths[0] <= self.widths[1])
        grows = 0 <= self.expansion[0] <= self.expansion[1] < math.inf and self.expansion[1] > 0
        _require("expansion", self.expansion, "two numbers from 0 up, the lower first", grows)
        _require("columns", self.columns, "above 1, so that N > d_out", 1 < self.columns < math.inf)
        _require("pixels", self.pixels, "at least 1", self.pixels >= 1)


def _known(flag: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in given or ("",):
        if name not in known:
            raise UsageError(f"--{flag} {name!r}: known are {', '.join(known)}")


def _require(flag: str, value: object, wanted: str, allowed: bool) -> None:  # noqa: FBT001
    if not allowed:
        raise UsageError(f"--{flag} {value}: must be {wanted}")


@dataclass(frozen=True, kw_only=True)
class Point:
    """Mean rank ratio of one kind of layer, nonlinearity and channel ratio, and the standard error of the mean.

    `batches` are the means of its batches; those of two points with the same ratio are of networks of the same sizes.
    """

    kind: str
    nonlinearity: str
    ratio: float
    rank_ratio: float
    standard_error: float
    networks: int
    batches: tuple[float, ...] = field(repr=False)

    @property
    def published(self) -> float | None:
        """What Figure 1 shows there, where it could be read."""
        return RANK_RATIOS[self.kind].get(self.nonlinearity, {}).get(round(self.ratio, 6))


def study(protocol: Protocol, progress: Progress, *, title: str = "random networks") -> tuple[Point, ...]:
    """All points, in the protocol's order; the same for any number of threads."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = [min(BATCH, protocol.networks - start) for start in range(0, protocol.networks, BATCH)]
    cells = list(product(protocol.kinds, protocol.ratios))
    jobs = [(kind, ratio, group, size) for kind, ratio in cells for group, size in enumerate(sizes)]
    found: dict[tuple[str, float], list[Tensor]] = {cell: [] for cell in cells}
    # Networks run beside each other; threads within such small matrices would only wait for one another.
    with torch_threads(1), ThreadPoolExecutor(1 if device.type == "cuda" else usable_cores()) as pool:
        done = pool.map(lambda job: rank_ratios(protocol, job[0], job[1], job[2], job[3], device), jobs)
        with progress.stage(title, len(cells) * protocol.networks, "networks") as bar:
            try:
                for (kind, ratio, _, size), ranks in zip(jobs, done, strict=True):
                    found[kind, ratio].append(ranks)
                    bar.advance(size, kind)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return tuple(
        point for (kind, ratio), groups in found.items() for point in _points(protocol, kind, ratio, groups, sizes)
    )


def _points(protocol: Protocol, kind: str, ratio: float, groups: list[Tensor], sizes: list[int]) -> Iterator[Point]:
    weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    means = torch.stack([group.mean(1) for group in groups], 1)  # [nonlinearity, group]: groups are independent
    overall = means @ weights
    spread = ((means - overall[:, None]) ** 2 @ weights).sqrt() / max(1, len(sizes) - 1) ** 0.5
    for index, name in enumerate(protocol.nonlinearities):
        yield Point(
            kind=kind,
            nonlinearity=name,
            ratio=ratio,
            rank_ratio=overall[index].item(),
            standard_error=spread[index].item(),
            networks=sum(sizes),
            batches=tuple(means[index].tolist()),
        )


def rank_ratios(protocol: Protocol, kind: str, ratio: float, group: int, networks: int, device: torch.device) -> Tensor:
    """Rank ratios float64 [nonlinearity, network] of one batch; all nonlinearities see the same weights and inputs."""
    # All kinds and ratios of a batch have the same sizes, so that their differences are not those of the sizes.
    random = torch.Generator().manual_seed(hash((protocol.seed, group)) & MASK)
    low, high = protocol.widths
    outputs = int(torch.randint(low, high + 1, (), generator=random))
    inputs = max(1, round(ratio * outputs))
    least, most = protocol.expansion
    hidden = max(1, round((least + (most - least) * torch.rand((), generator=random).item()) * inputs))
    images = math.ceil(protocol.columns * outputs / protocol.pixels**2)
    random = torch.Generator().manual_seed(hash((protocol.seed, group, KINDS.index(kind), round(ratio * 1e6))) & MASK)
    x = _draw(protocol.inputs, (networks, inputs, images * protocol.pixels**2), random).to(device)
    weights = [
        torch.randn(networks, *shape, generator=random).to(device)
        for shape in _shapes(kind, inputs, hidden, outputs, protocol.pixels)
    ]
    features = torch.stack([_forward(protocol, kind, NONLINEARITIES[f], x, weights) for f in protocol.nonlinearities])
    return (ranks(features, protocol.tolerance) / outputs).cpu()


def _draw(kind: Inputs, shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    if kind == "normal":
        return torch.randn(shape, generator=random)
    uniform = torch.rand(shape, generator=random)
    return uniform if kind == "uniform" else 2 * uniform - 1


def _shapes(kind: str, inputs: int, hidden: int, outputs: int, pixels: int) -> tuple[tuple[int, ...], ...]:
    """Kernels [out, in, taps] per network; taps is 1 where only the centre of a 3x3 kernel meets a pixel."""
    taps = 1 if pixels == 1 else 9
    if kind == "conv1x1":
        return ((outputs, inputs, 1),)
    if kind == "conv3x3":
        return ((outputs, inputs, taps),)
    middle = (hidden, hidden if kind == "bottleneck-conv" else 1, taps)
    return ((hidden, inputs, 1), middle, (outputs, hidden, 1))


def _forward(protocol: Protocol, kind: str, f: Callable[[Tensor], Tensor], x: Tensor, weights: list[Tensor]) -> Tensor:
    """Features [network, out, N]; a bottleneck's include the shortcut onto the leading channels."""

    def activate(y: Tensor) -> Tensor:
        match protocol.order:
            case "f":
                return f(y)
            case "f-bn":
                return _normalize(f(y))
            case "bn-f":
                return f(_normalize(y))

    if kind in {"conv1x1", "conv3x3"}:
        return activate(_convolve(x, weights[0], protocol.pixels))
    expand, middle, project = weights
    y = activate(_convolve(x, expand, protocol.pixels))
    y = activate(_convolve(y, middle, protocol.pixels))
    y = _convolve(y, project, protocol.pixels)
    y = y if protocol.order == "f" else _normalize(y)
    return y + functional.pad(x, (0, 0, 0, y.shape[1] - x.shape[1]))


def _normalize(y: Tensor) -> Tensor:
    """BatchNorm over N in training mode, without scale and shift."""
    variance, mean = torch.var_mean(y, -1, correction=0, keepdim=True)
    return (y - mean) * (variance + BATCH_NORM_EPS).rsqrt()


def _convolve(x: Tensor, kernel: Tensor, pixels: int) -> Tensor:
    """[network, in, N] and [network, out, in or 1, taps] -> [network, out, N]."""
    networks, channels, columns = x.shape
    outputs, taps = kernel.shape[1], kernel.shape[3]
    depthwise = kernel.shape[2] == 1 and channels > 1
    if taps == 1:
        return x * kernel[..., 0] if depthwise else kernel[..., 0] @ x
    maps = x.reshape(networks * channels, -1, pixels, pixels).transpose(0, 1)
    y = functional.conv2d(
        maps, kernel.reshape(networks * outputs, -1, 3, 3), padding=1, groups=networks * (channels if depthwise else 1)
    )
    return y.transpose(0, 1).reshape(networks, outputs, columns)


def ranks(features: Tensor, tolerance: float | None) -> Tensor:
    """Numerical rank [...] of matrices [..., channels, N]: singular values above `tolerance` times the largest."""
    matrix = features.double()
    squares = torch.linalg.eigvalsh(matrix @ matrix.mT)
    share = max(features.shape[-2:]) * torch.finfo(torch.float32).eps if tolerance is None else tolerance
    counted: Tensor = (squares > share**2 * squares[..., -1:]).sum(-1).double()
    return counted
