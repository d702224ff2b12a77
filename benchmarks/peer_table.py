"""What the peers took, as Markdown: times beside ours and beside the floor, and the floor itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from peer_files import Peer
from peer_floor import BYTES, Work, floor

from rexnet_export.pipeline.core.json import plain
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.timing.summary import paired_ratio, quantile

HEAD = (
    "network",
    "runtime",
    "file",
    "numbers",
    "p10 ms",
    "p50 ms",
    "p90 ms",
    "of ours there",
    "of our fastest",
    "of its floor",
)
LIMITS = {
    "int8": "products of INT8 (VNNI)",
    "bf16": "products of bf16",
    "float32": "products of float32 (FMA)",
    "cache": "bytes read of 4 MiB",
    "memory": "bytes read of 256 MiB",
}


@dataclass(frozen=True)
class Timed:
    """What a process said of itself, and the nanoseconds of its runs, one a round."""

    said: Mapping[str, Any]
    nanoseconds: Sequence[int]

    def ms(self, share: float) -> float:
        """Milliseconds that such a share of all runs do not exceed."""
        return quantile(self.nanoseconds, share) / 1e6

    def rate(self) -> float:
        """The most that it did in a second."""
        most: float = self.said["amount"] / min(self.nanoseconds) * 1e9
        return most


type Results = Sequence[Measurement[Timed]]  # in the order of the peers
type Limits = Mapping[str, Measurement[Timed]]


def page(size: int, peers: Sequence[Peer], timed: Results, limits: Limits, work: Mapping[str, Work]) -> str:
    """Everything about one size of images."""
    rates = {name: limit.rate() for name, limit in limits.items() if isinstance(limit, Timed)}
    parts = (
        _lines(HEAD, _rows(peers, timed, work, rates)),
        _lines(("network", "products", "weights", "activations", *BYTES), _floors(work, rates)),
        _lines(("limit", "at most, G a second", "p50"), _limits(limits)),
        "\n".join(_notes(peers, timed)),
    )
    counted = {len(each.nanoseconds) for each in timed if isinstance(each, Timed)}
    return "\n\n".join((f"{size} px, n = {'/'.join(map(str, sorted(counted)))}", *parts))


def save(peers: Sequence[Peer], timed: Results, limits: Limits, path: Path) -> None:
    """Every run of every file."""
    found = [{"peer": plain(peer), "timed": plain(each)} for peer, each in zip(peers, timed, strict=True)]
    path.write_text(json.dumps({"peers": found, "limits": plain(dict(limits))}), encoding="utf-8")


def _rows(
    peers: Sequence[Peer], timed: Results, work: Mapping[str, Work], rates: Mapping[str, float]
) -> Iterator[Sequence[str]]:
    ours = fastest_ours(peers, timed)
    best = min(ours.values(), key=lambda each: each.ms(0.5), default=None)
    for peer, found in zip(peers, timed, strict=True):
        names = (peer.network, peer.runtime, f"**{peer.title}**" if peer.ours else peer.title, peer.numbers)
        if isinstance(found, NotMeasured):
            yield *names, *["-"] * 6
            continue
        times = [f"{found.ms(share):.2f}" for share in (0.1, 0.5, 0.9)]
        ratios = [ratio(found, base) for base in (ours.get(peer.runtime), best)]
        known = peer.numbers in rates and "cache" in rates
        least = f"{found.ms(0.5) / floor(work[peer.network], peer.numbers, rates).ms:.1f}" if known else "-"
        yield *names, *times, *ratios, least


def fastest_ours(peers: Sequence[Peer], timed: Results) -> dict[str, Timed]:
    """Of each runtime our INT8 file of the smallest median."""
    found: dict[str, Timed] = {}
    for peer, each in zip(peers, timed, strict=True):
        if peer.ours and peer.numbers == "int8" and isinstance(each, Timed):
            found[peer.runtime] = min(found.get(peer.runtime, each), each, key=lambda one: one.ms(0.5))
    return found


def ratio(one: Timed, base: Timed | None) -> str:
    """The median of how many times as long it took as `base` in the same round, between its 90 % limits."""
    if base is None:
        return "-"
    if one is base:
        return "1"
    ratios = [a / b for a, b in zip(one.nanoseconds, base.nanoseconds, strict=True)]
    limits = paired_ratio(ratios, seed=0)
    between = f" ({limits['ci_low']:.2f} to {limits['ci_high']:.2f})" if limits else ""
    return f"{median(ratios):.2f}{between}"


def _floors(work: Mapping[str, Work], rates: Mapping[str, float]) -> Iterator[Sequence[str]]:
    for name, each in work.items():
        amounts = (f"{amount / 1e6:.1f} M" for amount in (each.macs, each.weights, each.activations))
        yield name, *amounts, *(_floor(each, numbers, rates) for numbers in BYTES)


def _floor(work: Work, numbers: str, rates: Mapping[str, float]) -> str:
    if numbers not in rates or "cache" not in rates:
        return "-"
    least = floor(work, numbers, rates)
    return f"{least.products_ms:.2f} and {least.bytes_ms:.2f} ms"


def _limits(limits: Limits) -> Iterator[Sequence[str]]:
    for name, limit in limits.items():
        if isinstance(limit, NotMeasured):
            yield LIMITS[name], "-", limit.reason
        else:
            middle = limit.said["amount"] / limit.ms(0.5) / 1e6
            yield LIMITS[name], f"{limit.rate() / 1e9:.0f}", f"{middle:.0f}"


def _notes(peers: Sequence[Peer], timed: Results) -> Iterator[str]:
    """By what all was executed, what was not measured and why, and in which numbers OpenVINO multiplies, as it says."""
    yield "- " + ", ".join(dict.fromkeys(each.said["by"] for each in timed if isinstance(each, Timed)))
    for peer, found in zip(peers, timed, strict=True):
        name = f"{peer.network}, {peer.runtime}, {peer.title}, {peer.numbers}"
        if isinstance(found, NotMeasured):
            yield f"- {name}: not measured, {found.reason}"
        elif computes := found.said.get("computes"):
            yield f"- {name}: " + ", ".join(f"{count} layers in {numbers}" for numbers, count in computes.items())


def _lines(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [" | ".join(row) for row in (head, ["--"] * len(head), *rows)]
    return "\n".join(f"| {line} |" for line in lines)
