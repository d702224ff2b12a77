"""The part of `report.html` that shows the network block by block: every tensor's name, range, scale and noise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rexnet_export.apps.shared.html.document import render
from rexnet_export.apps.shared.text import DASH, counted, shown
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.proof.tensor_noise import TensorNoise
from rexnet_export.quantization.table.table import QuantTable

LOUD, SILENT_DB = 0.04, 60.0  # a bar's least height, and the SQNR from which on it is whole
ABSENT = NotMeasured(reason="not in this file")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One tensor as a bar: where it stands, how high it is (percent), and what it says under a pointer."""

    x: str
    width: str
    y: str
    height: str
    says: str


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of the network: what its line says, a bar for each tensor, and the table that opens below."""

    title: str
    bars: tuple[Bar, ...]
    rows: tuple[tuple[str, ...], ...]


def network_section(layers: Mapping[str, Sequence[TensorNoise]], table: QuantTable | None) -> Markup:
    """The blocks in the network's order, or nothing where no tensor's noise was measured."""
    levels = {name: {noise.tensor: noise.sqnr_db for noise in tensors} for name, tensors in layers.items()}
    order = list(dict.fromkeys(noise.tensor for tensors in layers.values() for noise in tensors))
    if not order:
        return Markup()
    return render(
        __package__,
        "network.html",
        count=len(order),
        head=("tensor", "range", "scale", *(f"{name}, dB" for name in levels)),
        blocks=list(_blocks(order, levels, table)),
    )


def block_of(tensor: str) -> str:
    """`features.3` of `features.3.expand.silu`; else what stands before the first dot."""
    found = re.match(r"features\.\d+", tensor)
    return found[0] if found else tensor.partition(".")[0]


def _blocks(
    order: Sequence[str], levels: Mapping[str, Mapping[str, Measurement[float]]], table: QuantTable | None
) -> Iterator[Block]:
    named: dict[str, list[str]] = {}
    for tensor in order:
        named.setdefault(block_of(tensor), []).append(tensor)
    for block, tensors in named.items():
        rows = tuple(_row(tensor, levels, table) for tensor in tensors)
        worst = [_lowest(tensor, levels) for tensor in tensors]
        known = [(level, tensor) for level, tensor in zip(worst, tensors, strict=True) if level is not None]
        lowest = "lowest {:.1f} dB ({})".format(*min(known)) if known else "without noise"
        bars = tuple(
            _bar(place, len(rows), level, row, list(levels))
            for place, (row, level) in enumerate(zip(rows, worst, strict=True))
        )
        yield Block(title=f"{block}: {counted(len(tensors), 'tensor')}, {lowest}", bars=bars, rows=rows)


def _row(
    tensor: str, levels: Mapping[str, Mapping[str, Measurement[float]]], table: QuantTable | None
) -> tuple[str, ...]:
    noise = (shown(known.get(tensor, ABSENT), "{:.1f}".format) for known in levels.values())
    return tensor, *_range(tensor, table), *noise


def _range(tensor: str, table: QuantTable | None) -> tuple[str, str]:
    """What a tensor's integers reach, and one step of them; what is in float has neither."""
    entry = table.tensors.get(tensor) if table else None
    if entry is None or entry.params is None:
        return ("float" if entry else DASH), DASH
    low, high = entry.params.limits
    return f"{low:.4g} to {high:.4g}", f"{entry.params.scale[0]:.4g}"


def _lowest(tensor: str, levels: Mapping[str, Mapping[str, Measurement[float]]]) -> float | None:
    known = [level for each in levels.values() if not isinstance(level := each.get(tensor, ABSENT), NotMeasured)]
    return min(known, default=None)


def _bar(place: int, count: int, level: float | None, row: Sequence[str], names: Sequence[str]) -> Bar:
    """As high as the tensor is clean; one without noise is whole."""
    share = 1.0 if level is None else min(1.0, max(LOUD, level / SILENT_DB))
    tensor, reach, scale, *noise = row
    said = ", ".join(f"{name} {db} dB" for name, db in zip(names, noise, strict=True) if db != DASH)
    step = DASH if scale == DASH else f"scale {scale}"
    says = "; ".join(part for part in (tensor, reach, step, said) if part not in {DASH, ""})
    return Bar(
        x=f"{100 * place / count:.2f}%",
        width=f"{85 / count:.2f}%",
        y=f"{100 * (1 - share):.1f}%",
        height=f"{100 * share:.1f}%",
        says=says,
    )
