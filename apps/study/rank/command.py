"""`rexnet-study rank`: the rank study on random networks, or of trained networks on real images."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.apps.study.common.files import check_page, markdown_table, write_bytes, write_text
from rexnet_export.apps.study.rank import trained_command as study_trained
from rexnet_export.apps.study.rank.plots import rank_plot
from rexnet_export.pipeline.core.errors import UsageError

if TYPE_CHECKING:
    from rexnet_export.apps.study.rank.claims import Claim
    from rexnet_export.apps.study.rank.protocol_sensitivity import Variation
    from rexnet_export.apps.study.rank.random_layers import Point, Protocol

HELP = "rank of the features of random layers (the paper's Figure 1), or of trained networks on real images"
OUTPUT = Path("rexnet-study-out/rank.md")
LIMITS = """A bottleneck's output is its projected hidden features plus the shortcut, so its rank is at most
(t + 1) d_in for t times as many hidden channels, whatever the nonlinearity. The paper says neither which t it used nor
how its 3x3 convolutions see their neighbours. Our reading of its figure: the curves of bottlenecks are nearest to that
bound for t spread evenly from 0 to 5, not for t = 6 throughout, and their linear curves, at d_in / d_out, to 3x3
convolutions that see no neighbouring pixels. The default expansion, 0 to 5, is therefore inferred and not published.

The paper normalises with a BatchNorm whose place it does not give. The default, order f, is an untrained network as it
evaluates, where BatchNorm changes nothing. "f then BatchNorm" and "BatchNorm then f" below normalise by the features.
"""
CSV_HEAD = ("kind", "nonlinearity", "ratio", "rank_ratio", "standard_error", "networks", "published")
PROTOCOL = {
    "kinds": "layers: conv1x1, conv3x3, bottleneck-conv, bottleneck-depthwise",
    "nonlinearities": "linear, relu, relu6, leaky-relu, elu, softplus, hard-swish, silu",
    "ratios": "d_in / d_out, above 0 and at most 1",
    "networks": "random networks per point (default 1000)",
    "seed": "",
    "inputs": "uniform (in [0, 1], the default), normal or signed-uniform (in [-1, 1])",
    "order": "f (BatchNorm as an untrained network evaluates it, the identity; the default), f-bn or bn-f",
    "tolerance": "singular values count above this share of the largest (default: float32's, max(d_out, N) 2^-23)",
    "widths": "least and most d_out (default 60 160)",
    "expansion": "least and most hidden channels of a bottleneck over d_in (default 0 5, our reading of the figure)",
    "columns": "N over d_out (default 3)",
    "pixels": "side of the maps that N is made of (default 1)",
}


def add_options(p: argparse.ArgumentParser) -> None:
    """The command line."""
    several: dict[str, Any] = {"nargs": "+"}
    pair: dict[str, Any] = {"nargs": 2}
    shapes: dict[str, dict[str, Any]] = {
        "kinds": several,
        "nonlinearities": several,
        "ratios": {"nargs": "+", "type": float},
        "widths": {**pair, "type": int},
        "expansion": {**pair, "type": float},
        "tolerance": {"type": float},
        "columns": {"type": float},
        "networks": {"type": int},
        "seed": {"type": int},
        "pixels": {"type": int},
    }
    for name, text in PROTOCOL.items():
        p.add_argument(f"--{name}", help=text, **shapes.get(name, {}))
    p.add_argument("--sensitivity", type=int, metavar="N", help="judge other protocols too, on N networks per point")
    study_trained.add_options(p)
    text = f"page (default {OUTPUT}, of trained networks {study_trained.OUTPUT}); .svg and .csv beside"
    p.add_argument("--write", type=Path, metavar="FILE", help=text)


def run(options: argparse.Namespace, terminal: Terminal) -> None:
    """Study, write page, picture and table, and say what was found."""
    if options.checkpoint:
        study_trained.run(options, terminal)
    else:
        study_trained.refuse(options)
        _random(options, terminal)


def _random(options: argparse.Namespace, terminal: Terminal) -> None:
    """The rank study on random networks."""
    from rexnet_export.apps.study.rank.claims import claims, distance  # noqa: PLC0415 - imports torch
    from rexnet_export.apps.study.rank.protocol_sensitivity import sensitivity  # noqa: PLC0415
    from rexnet_export.apps.study.rank.random_layers import study  # noqa: PLC0415

    protocol = chosen(options)
    if options.sensitivity is not None and options.sensitivity < 1:
        raise UsageError(f"--sensitivity {options.sensitivity}: must be at least 1")
    page: Path = options.write or OUTPUT
    check_page(page)
    points = study(protocol, terminal)
    judged, off = claims(points), distance(points)
    others = sensitivity(protocol, options.sensitivity, terminal) if options.sensitivity else ()
    write_text(page, document(protocol, judged, off, others, options.sensitivity or 0, page.stem))
    write_text(page.with_suffix(".csv"), table(points))
    write_bytes(page.with_suffix(".svg"), rank_plot(points))
    for claim in judged:
        terminal.out.print(f"{claim.verdict}: {claim.statement} ({claim.holds} of {claim.compared})", soft_wrap=True)
    terminal.note(f"{page}, {page.with_suffix('.csv').name} and {page.with_suffix('.svg').name} written")


def chosen(options: argparse.Namespace) -> Protocol:
    """The protocol with what was asked for; refuses what no network could have."""
    from rexnet_export.apps.study.rank.random_layers import Protocol  # noqa: PLC0415 - imports torch

    given: dict[str, Any] = {}
    for name in PROTOCOL:
        if (value := getattr(options, name)) is not None:
            given[name] = tuple(value) if isinstance(value, list) else value
    return Protocol(**given)


def table(points: Sequence[Point]) -> str:
    """All points as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for p in points:
        published = "" if p.published is None else p.published
        ratios = (f"{p.rank_ratio:.4f}", f"{p.standard_error:.4f}")
        writer.writerow((p.kind, p.nonlinearity, f"{p.ratio:g}", *ratios, p.networks, published))
    return text.getvalue()


def document(
    protocol: Protocol,
    judged: Sequence[Claim],
    off: float | None,
    others: Sequence[Variation],
    networks: int,
    stem: str,
) -> str:
    """The page: protocol, picture, verdicts, sensitivity."""
    chosen_rows = [(f.name, _value(getattr(protocol, f.name))) for f in fields(protocol)]
    verdicts = [(c.statement, c.verdict, f"{c.holds} of {c.compared}", _examples(c)) for c in judged]
    near = "" if off is None else f" Root mean square difference from the published values: {off:.3f}."
    text = (
        "# Rank of random layers\n\n"
        f"Generated by `rexnet-study rank`; every number is in [{stem}.csv]({stem}.csv). The protocol is the paper's "
        "section 3.2;\nwhat that leaves open is chosen so that its Figure 1 appears, and varied below.\n\n"
        f"![rank ratios]({stem}.svg)\n\n{LIMITS}\n## What the paper claims\n\n"
        f"A point counts when the difference is above two standard errors, over networks of the same sizes.{near}\n\n"
    )
    text += markdown_table(("claim", "verdict", "points", "where it does not hold"), verdicts)
    text += "\n## Protocol\n\n" + markdown_table(("choice", "value"), chosen_rows)
    if others:
        text += (
            f"\n## How much hangs on it\n\nOne choice changed at a time, {networks} networks per point, ratios "
            "0.1, 0.2, 0.3, 0.5 and 1.0. Columns: the claims above, in order.\n\n"
        )
        head = ("protocol", *(f"claim {n + 1}" for n in range(len(judged))), "from the published")
        text += markdown_table(head, [_variation(other) for other in others])
    return text


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(_value(one) for one in value)
    return (
        "float32's, max(d_out, N) 2^-23" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    )


def _variation(other: Variation) -> tuple[str, ...]:
    off = "-" if other.distance is None else f"{other.distance:.3f}"
    return (other.choice, *(f"{c.holds}/{c.compared}" for c in other.claims), off)


def _examples(claim: Claim) -> str:
    more = len(claim.against) - 2
    return "; ".join(claim.against[:2]) + (f"; {more} more" if more > 0 else "")
