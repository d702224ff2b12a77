"""What can be counted from two files alone and must not get worse, on any machine: no noise, so no tolerance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rexnet_export.pipeline.artifact.inspection import Inspection
from rexnet_export.pipeline.artifact.structure import Structure
from rexnet_export.pipeline.core.records import Coverage, Measurement, NotMeasured, Text, stored_file

type Change = Literal["same", "better", "worse", "not compared"]
type Number = int | float

# Texts of other lengths move what follows them to other multiples of the formats' alignments.
PADDING = 64
OTHER_PRECISION = NotMeasured(reason="files of different precisions have different operators")


class Inspectable(Protocol):
    """One artifact, opened where a crash harms nobody else."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    def inspect(self) -> Inspection:
        """What it really holds."""


@dataclass(frozen=True, kw_only=True)
class Signals:
    """One file's counts.

    `text_bytes` is what the file says of itself: labels, digests, golden logits, versions. It does not count as size.
    """

    format: str
    precision: str
    file_bytes: int
    text_bytes: int
    coverage: Coverage
    structure: Structure


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One count of both files, and what the change means; `detail` says what changed."""

    name: Text
    base: Measurement[Number]
    candidate: Measurement[Number]
    change: Change
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every signal of two files of one format."""

    signals: tuple[Signal, ...]

    @property
    def worse(self) -> tuple[Signal, ...]:
        """What fails the gate."""
        return tuple(signal for signal in self.signals if signal.change == "worse")

    @property
    def verdict(self) -> Literal["PASS", "FAIL"]:
        """FAIL where anything at all is worse."""
        return "FAIL" if self.worse else "PASS"


def read(file: Inspectable) -> Signals:
    """Count everything in a file on disk."""
    inspection = file.inspect()
    metadata = inspection.metadata
    return Signals(
        format=file.path.suffix.removeprefix("."),
        precision=metadata.get("precision", "unknown"),
        file_bytes=stored_file(file.path).bytes,
        text_bytes=sum(len(text.encode()) for entry in metadata.items() for text in entry),
        coverage=inspection.coverage,
        structure=inspection.structure,
    )


def compare(base: Signals, candidate: Signals) -> Measurement[Comparison]:
    """Every signal, worse if it is worse at all; files of different formats have nothing to compare."""
    if base.format != candidate.format:
        return NotMeasured(reason=f"a .{base.format} and a .{candidate.format} file are built of different parts")
    return Comparison(signals=tuple(_signals(base, candidate)))


def _signals(base: Signals, candidate: Signals) -> Iterator[Signal]:
    pair = base, candidate
    yield _size(base, candidate)
    yield _fewer("bytes of tensors", [s.structure.tensor_bytes for s in pair])
    if base.precision == candidate.precision:
        yield _operators(base.structure.operators, candidate.structure.operators)
        yield _fewer("quantize/dequantize pairs left", [s.structure.qdq_pairs for s in pair])
    else:
        for name in ("operators", "quantize/dequantize pairs left"):
            yield Signal(
                name=name,
                base=OTHER_PRECISION,
                candidate=OTHER_PRECISION,
                change="not compared",
                detail=OTHER_PRECISION.reason,
            )
    yield _float_operators(base.coverage.float_ops, candidate.coverage.float_ops)
    yield _fewer("float islands", [s.structure.float_islands for s in pair])
    yield _int8_share(base.coverage, candidate.coverage)
    yield _fewer("multiply-accumulates", [s.coverage.total_macs for s in pair])
    yield _fewer("peak arena bytes", [s.structure.arena_bytes for s in pair], detail=base.structure.arena_method)


def _fewer(name: str, values: Sequence[Measurement[int]], detail: str = "") -> Signal:
    """A count of which less is better."""
    base, candidate = values
    if isinstance(base, NotMeasured) or isinstance(candidate, NotMeasured):
        reasons = [value.reason for value in values if isinstance(value, NotMeasured)]
        return Signal(name=name, base=base, candidate=candidate, change="not compared", detail=reasons[0])
    return Signal(name=name, base=base, candidate=candidate, change=_judged(candidate - base), detail=detail)


def _judged(increase: float) -> Change:
    if increase == 0:
        return "same"
    return "worse" if increase > 0 else "better"


def _size(base: Signals, candidate: Signals) -> Signal:
    """Bytes without the texts. Where the texts' lengths differ, so does the padding around them: that much is free."""
    before, after = (signals.file_bytes - signals.text_bytes for signals in (base, candidate))
    moved = base.text_bytes != candidate.text_bytes and abs(after - before) <= PADDING
    return Signal(
        name="bytes of the file, its texts aside",
        base=before,
        candidate=after,
        change="same" if moved else _judged(after - before),
        detail="padding around texts of other lengths" if moved and before != after else "",
    )


def _operators(base: Mapping[str, int], candidate: Mapping[str, int]) -> Signal:
    """More operators are worse, and so is another mixture of as many; fewer are better, whatever their mixture."""
    totals = sum(base.values()), sum(candidate.values())
    gained = {kind: candidate.get(kind, 0) - base.get(kind, 0) for kind in sorted({*base, *candidate})}
    changed = {kind: difference for kind, difference in gained.items() if difference}
    increase = totals[1] - totals[0] or len(changed)
    return Signal(
        name="operators",
        base=totals[0],
        candidate=totals[1],
        change=_judged(increase),
        detail=", ".join(f"{difference:+d} {kind}" for kind, difference in changed.items()),
    )


def _float_operators(base: Sequence[str], candidate: Sequence[str]) -> Signal:
    """An operator that becomes float is worse even where another one stops being it."""
    new = [name for name in candidate if name not in base]
    more = len(candidate) - len(base)
    renamed = sorted(map(_kind, base)) == sorted(map(_kind, candidate))
    return Signal(
        name="float operators",
        base=len(base),
        candidate=len(candidate),
        change="same" if renamed else _judged(more or len(new)),
        detail="" if renamed or not new else f"new: {', '.join(new[:3])}{' ...' if len(new) > 3 else ''}",
    )


def _kind(operator: str) -> str:
    return operator.rpartition("(")[2]


def _int8_share(base: Coverage, candidate: Coverage) -> Signal:
    lost = base.int8_macs * candidate.total_macs - candidate.int8_macs * base.total_macs
    return Signal(
        name="share of INT8 multiply-accumulates",
        base=base.int8_mac_fraction,
        candidate=candidate.int8_mac_fraction,
        change=_judged(lost),
    )


def read_two(base: Inspectable, candidate: Inspectable) -> Measurement[Comparison]:
    """Compare two artifacts on disk."""
    return compare(read(base), read(candidate))
