"""Pictures for pages: SVG drawn by matplotlib, in the page's own text colour, so that they follow light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from rexnet_export.apps.shared.text import counted
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.timing.summary import quantile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rexnet_export.pipeline.proof.tensor_noise import TensorNoise
    from rexnet_export.quantization.calibration.channel_spread import Spread

INK = "#010203"  # stands for the page's text colour, which matplotlib cannot know
COLORS = ("#2f81d0", "#d9772b", "#3a9a5b", "#b25fc6", "#c2a400")  # told apart on white and on black
FORMS = ("o", "s", "^", "D", "v")
WIDTH = 7.2  # inches; pages scale pictures to their own width
MARGIN = 1.05  # of the axis beyond the last marker, which would be cut in half
USUAL = 0.95  # of a file's runs are drawn where they are; the axis reaches a tenth further
NO_RANGE = 1 / 1024  # where a channel that never varies is drawn: a quarter of a step
STYLE: dict[Any, Any] = {  # matplotlib types the keys as a union of all of them
    "svg.fonttype": "none",
    "text.parse_math": False,  # names are not formulas
    "svg.hashsalt": "rexnet-export",
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "grid.color": INK,
    "grid.alpha": 0.15,
}


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value between its limits, and what the upper one must stay below."""

    name: str
    value: float
    lower: float
    upper: float
    allowed: float


@dataclass(frozen=True, kw_only=True)
class Trade:
    """What something costs, what it gains (a fraction), at least how much, and whether nothing else beats it."""

    name: str
    cost: float
    gain: float
    least: float
    on_front: bool


def layer_plot(layers: Mapping[str, Sequence[TensorNoise]]) -> Markup:
    """SQNR from the image to the logits, one line for each artifact."""
    order = dict.fromkeys(noise.tensor for tensors in layers.values() for noise in tensors)
    places = {name: place for place, name in enumerate(order)}

    def draw(axes: Axes) -> None:
        for color, (name, tensors) in zip(cycle(COLORS), layers.items(), strict=False):
            known = [(places[t.tensor], t.sqnr_db) for t in tensors if not isinstance(t.sqnr_db, NotMeasured)]
            axes.plot([x for x, _ in known], [y for _, y in known], color=color, label=name, linewidth=1.2)
        axes.set(xlabel="tensor, from the image to the logits", ylabel="SQNR, dB")
        axes.grid(visible=True)
        axes.legend()

    return _drawn(3.2, "SQNR of every tensor", draw)


def spread_plot(spreads: Sequence[Spread]) -> Markup:
    """Ranges of channels over their tensor's: from the smallest to the largest, thick for the middle 80 %."""
    rows = range(len(spreads))

    def draw(axes: Axes) -> None:
        for offset, color, side in ((-0.15, COLORS[1], "before"), (0.15, COLORS[0], "after")):
            found = [[max(value, NO_RANGE) for value in getattr(spread, side)] for spread in spreads]
            places = [row + offset for row in rows]
            axes.hlines(places, [r[0] for r in found], [r[4] for r in found], color=color, linewidth=1)
            axes.hlines(places, [r[1] for r in found], [r[3] for r in found], color=color, linewidth=4)
            axes.plot([r[2] for r in found], places, "o", color=color, markersize=5, label=side)
        axes.set_xscale("log", base=2)
        axes.set_yticks(list(rows), [spread.tensor for spread in spreads])
        axes.set_ylim(len(spreads) - 0.5, -0.5)
        axes.set_xlabel("range of a channel / range of the tensor")
        axes.grid(visible=True, axis="x")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

    return _drawn(0.9 + 0.32 * len(spreads), "Ranges of channels before and after equalization", draw)


def latency_plot(samples: Mapping[str, Sequence[float]]) -> Markup:
    """Every run of every file, with a box from the first to the third quartile and a line at the median."""
    names = list(samples)
    # One run that something else held up must not squash all others.
    edge = 1.1 * max(quantile(runs, USUAL) for runs in samples.values())
    late = sum(run > edge for runs in samples.values() for run in runs)

    def draw(axes: Axes) -> None:
        boxes = axes.boxplot([samples[name] for name in names], orientation="horizontal", showfliers=False, widths=0.5)
        for line in (line for lines in boxes.values() for line in lines):
            line.set_color(INK)
        for place, name in enumerate(names, 1):
            # Over the height in the order measured: runs do not hide each other, and a trend shows.
            last = max(1, len(samples[name]) - 1)
            heights = [place - 0.2 + 0.4 * run / last for run in range(len(samples[name]))]
            shown = [min(run, edge) for run in samples[name]]
            axes.plot(shown, heights, ".", color=COLORS[0], alpha=0.6, markersize=4, clip_on=False)  # whole at edges
        axes.set_yticks(range(1, len(names) + 1), names)
        axes.set_ylim(len(names) + 0.5, 0.5)
        axes.set_xlim(0, edge)
        axes.set_xlabel("ms" + (f"; {counted(late, 'slower run')} drawn at the right edge" if late else ""))
        axes.grid(visible=True, axis="x")

    return _drawn(0.8 + 0.42 * len(samples), "Time of every run", draw)


def interval_plot(intervals: Sequence[Interval], unit: str) -> Markup:
    """Values with their limits, each beside what is allowed."""

    def draw(axes: Axes) -> None:
        rows = range(len(intervals))
        for row, one in zip(rows, intervals, strict=True):
            color = COLORS[0] if one.upper < one.allowed else COLORS[1]
            axes.hlines(row, one.lower, one.upper, color=color, linewidth=2)
            axes.plot([one.value], [row], "o", color=color, markersize=6)
        axes.plot([one.allowed for one in intervals], list(rows), "|", color=INK, markersize=14)
        axes.set_yticks(list(rows), [one.name for one in intervals])
        axes.set_ylim(len(intervals) - 0.5, -0.5)
        axes.set_xlabel(unit)
        axes.grid(visible=True, axis="x")

    return _drawn(0.7 + 0.3 * len(intervals), f"Intervals in {unit}", draw)


def trade_plot(trades: Sequence[Trade], unit: str, title: str) -> Markup:
    """Gain over cost, each with a colour and a form; filled and joined by a line where nothing else beats them."""
    signs = [(color, form) for form in FORMS for color in COLORS]

    def draw(axes: Axes) -> None:
        front = sorted((trade for trade in trades if trade.on_front), key=lambda trade: trade.cost)
        axes.step(
            [t.cost for t in front], [100 * t.gain for t in front], where="post", color=INK, alpha=0.3, linewidth=1
        )
        for (color, form), trade in zip(cycle(signs), trades, strict=False):
            axes.vlines(trade.cost, 100 * trade.least, 100 * trade.gain, color=color, linewidth=1)
            filled = color if trade.on_front else "none"
            style: dict[str, Any] = {"markerfacecolor": filled, "markeredgecolor": color, "markersize": 6}
            axes.plot([trade.cost], [100 * trade.gain], form, label=trade.name, **style)
        axes.set(xlabel=unit, ylabel="top-1, %")
        # A margin of what costs span, matplotlib's own, is nothing on an axis from 0 where they are close.
        axes.set_xlim(0, MARGIN * max(trade.cost for trade in trades))
        axes.grid(visible=True)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.18), ncols=2, fontsize=7)

    return _drawn(3.4 + 0.1 * len(trades), title, draw)


def _drawn(height: float, title: str, draw: Callable[[Axes], None]) -> Markup:
    """A picture as an element for a page; its ids begin with the title, so that pictures share none."""
    from matplotlib import rc_context  # noqa: PLC0415 - half a second that only pages need
    from matplotlib.figure import Figure  # noqa: PLC0415

    content = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    text = content.getvalue()
    picture = text[text.index("<svg") :].replace(INK, "currentColor")
    # Inside HTML, SVG needs no namespaces, and nothing in a page should look like an address of the network.
    picture = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", picture).replace("xlink:href", "href")
    picture = re.sub(r"<metadata>.*?</metadata>", "", picture, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", title.lower())
    picture = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", picture)
    size = re.search(r'width="[^"]*" height="[^"]*"', picture)
    assert size is not None
    named = picture.replace(size[0], f'class="plot" role="img" aria-label="{escape(title)}"', 1)
    return Markup(f'<div class="wide" tabindex="0">{named}</div>')  # noqa: S704 - matplotlib escaped every text in it
