"""The studies' pictures, as SVG; the same data gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rexnet_export.apps.study.rank.random_layers import Point
    from rexnet_export.apps.study.rank.trained_networks import NetworkRanks

TITLES = {
    "conv1x1": "(a) 1x1 convolution",
    "conv3x3": "(b) 3x3 convolution",
    "bottleneck-conv": "(c) inverted bottleneck, 3x3 convolution",
    "bottleneck-depthwise": "(d) inverted bottleneck, depthwise",
}


def rank_plot(points: Sequence[Point]) -> bytes:
    """Rank ratio against channel ratio, one panel per kind of layer: measured lines beside published marks."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    kinds = list(dict.fromkeys(point.kind for point in points))
    names = list(dict.fromkeys(point.nonlinearity for point in points))
    figure = Figure(figsize=(12.5, 4.2 * ((len(kinds) + 1) // 2)), layout="constrained")
    for position, kind in enumerate(kinds, 1):
        axes = figure.add_subplot((len(kinds) + 1) // 2, 2, position, title=TITLES[kind])
        for color, name in enumerate(names):
            line = sorted((p for p in points if (p.kind, p.nonlinearity) == (kind, name)), key=lambda p: p.ratio)
            published = [(p.ratio, p.published) for p in line if p.published is not None]
            axes.plot([p.ratio for p in line], [p.rank_ratio for p in line], color=f"C{color}", label=name)
            axes.plot(*zip(*published, strict=True), "o", color=f"C{color}", markersize=4) if published else None
        axes.set(xlabel="d_in / d_out", ylabel="rank / d_out", ylim=(_lowest(points, kind), 1.01))
        axes.grid(alpha=0.3)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside right upper", title="line: measured\ndot: published")
    return _svg(figure)


def _lowest(points: Sequence[Point], kind: str) -> float:
    """Where a panel's axis begins: at 0.7 as in the published figure where only the linear curve lies below."""
    others = [p.rank_ratio for p in points if p.kind == kind and p.nonlinearity != "linear"]
    return 0.7 if min(others, default=0.0) > 0.7 else 0.0


def spectrum_plot(networks: Sequence[NetworkRanks]) -> bytes:
    """Effective rank of each block's features along the depth, and the singular values of the last block."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    depth = figure.add_subplot(1, 2, 1, title="effective rank / channels, block by block")
    last = figure.add_subplot(1, 2, 2, title="singular values of the last features", yscale="log")
    for ranks in networks:
        layers = ranks.stages
        depth.plot(
            [n / (len(layers) - 1) for n in range(len(layers))],
            [layer.effective_rank / layer.channels for layer in layers],
            "o-",
            markersize=3,
            label=f"{ranks.name} ({ranks.file})",
        )
        values = layers[-1].singular_values
        last.plot([n / len(values) for n in range(len(values))], [max(v / values[0], 1e-9) for v in values])
    depth.set(xlabel="depth", ylabel="effective rank / channels", ylim=(0, None))
    last.set(xlabel="index / channels", ylabel="singular value / largest")
    depth.legend(fontsize="small")
    for axes in (depth, last):
        axes.grid(alpha=0.3)
    return _svg(figure)


def _svg(figure: Figure) -> bytes:
    from matplotlib import rc_context  # noqa: PLC0415

    content = io.BytesIO()
    with rc_context({"svg.hashsalt": "rexnet-export"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
