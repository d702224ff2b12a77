"""What `rexnet-export verify` found, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from rexnet_export.apps.shared.terminal_table import Column, FittedTable, Paragraph, Row
from rexnet_export.apps.shared.text import counted, grouped, int8_share, shown, unmeasured_lines
from rexnet_export.pipeline.accuracy.compare import (
    STEPS,
    LogitComparison,
    LogitDifference,
    Steps,
    TensorDifference,
    worst_first,
)
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.proof.examine import Finding
from rexnet_export.pipeline.proof.verify import TensorFinding, Verification

WORST = 5


def tables(found: Verification) -> RenderableType:
    """The files, the pairs of files, the tensors that are furthest apart; problems are the failure's to tell."""
    parts: list[RenderableType] = [_files(found), Paragraph("")]
    if isinstance(found.logits, NotMeasured):
        parts += [Paragraph(f"not executed on images: {found.logits.reason}"), Paragraph("")]
    elif found.logits.pairs:
        parts += [_pairs(found.logits), Paragraph("")]
    if isinstance(found.tensors, NotMeasured):
        if found.tensors != found.logits:
            parts += [Paragraph(f"tensors not compared: {found.tensors.reason}"), Paragraph("")]
    else:
        parts += map(_tensors, _alike(found.tensors))
    whole = [finding for finding in found.findings if not finding.problems]
    parts += map(Paragraph, unmeasured_lines((finding.name, finding.vouched_by) for finding in whole))
    parts += map(Paragraph, grouped((f.name, change) for f in found.findings for change in f.changes))
    return Group(*parts)


def problem_lines(found: Verification) -> Iterator[str]:
    """Every problem once, with the files that have it."""
    return grouped((finding.name, problem) for finding in found.findings for problem in finding.problems)


def verdict_line(found: Verification) -> Text:
    """The verdict of files without a problem."""
    files = "1 file is" if len(found.findings) == 1 else f"{len(found.findings)} files are"
    if found.proven:
        return Text(f"PASS: {files} what was written, and ran again as then", style="green")
    unread = {
        finding.name: finding.executed_by.reason
        for finding in found.findings
        if isinstance(finding.executed_by, NotMeasured)
    }
    if unread:
        missing = "; ".join(dict.fromkeys(unread.values()))
        return Text(f"PASS, not proven: {', '.join(unread)} cannot be executed here: {missing}", style="yellow")
    if compressed := [finding.name for finding in found.findings if finding.compressed]:
        changed = f"{', '.join(compressed)} {'was' if len(compressed) == 1 else 'were'} compressed since"
        return Text(f"PASS, but not as it was written: {changed}", style="yellow")
    own = "what they say themselves; a manifest or --expect vouches for more"
    return Text(f"PASS, consistent but not proven: {files} {own}", style="yellow")


def _named(title: str, name: str, *figures: Column, rows: Iterable[Row]) -> FittedTable:
    return FittedTable(title, (Column(title=name, name=True), *figures), list(rows))


def _files(found: Verification) -> FittedTable:
    top1 = {} if isinstance(found.logits, NotMeasured) else found.logits.top1
    images = "" if isinstance(found.logits, NotMeasured) else f" on {found.logits.n:,} images of {found.images}"
    return _named(
        f"{counted(len(found.findings), 'file')}{images}",
        "file",
        *(Column(title=title) for title in ("found", "self-test", "table", "INT8", "top-1")),
        Column(title="executed by", sentence=True),
        rows=(_file(finding, top1.get(finding.name, NotMeasured(reason="not run"))) for finding in found.findings),
    )


def _file(finding: Finding, top1: Measurement[float]) -> Row:
    return [
        finding.name,
        Text("FAIL", style="red") if finding.problems else "sound",
        shown(finding.self_test, lambda tested: "same" if tested.passed else "CHANGED"),
        shown(finding.holds_table, lambda held: "held" if held else "NOT HELD"),
        shown(finding.coverage, int8_share),
        shown(top1, lambda value: f"{value:.2%}"),
        shown(finding.executed_by, str),
    ]


def _pairs(logits: LogitComparison) -> FittedTable:
    return _named(
        "pairs, by their logits",
        "files",
        *(Column(title=title) for title in ("same top-1", "largest difference", f"within {STEPS[-1]} steps")),
        rows=(_pair(pair) for pair in logits.pairs),
    )


def _pair(pair: LogitDifference) -> list[str]:
    largest = pair.steps if isinstance(pair.steps, NotMeasured) else pair.steps.largest
    return [
        " ~ ".join(pair.names),
        f"{pair.agreement:.2%}",
        f"{pair.largest:.3g}" if isinstance(largest, NotMeasured) else f"{largest:.0f} steps",
        shown(pair.steps, lambda s: f"{s.within[-1]:.2%}"),
    ]


def _alike(findings: Sequence[TensorFinding]) -> list[tuple[str, TensorFinding]]:
    """Every table once, under the pairs of files that have it."""
    groups: list[tuple[list[str], TensorFinding]] = []
    for finding in findings:
        pair = " ~ ".join(finding.names)
        same = next((pairs for pairs, first in groups if replace(finding, names=first.names) == first), None)
        if same is None:
            groups.append(([pair], finding))
        else:
            same.append(pair)
    return [("; ".join(pairs), finding) for pairs, finding in groups]


def _tensors(alike: tuple[str, TensorFinding]) -> RenderableType:
    pairs, finding = alike
    traces = finding.traces
    on = f"{counted(len(traces.tensors), 'tensor')} on {counted(traces.images, 'image')}"
    grid = _named(
        f"{pairs}: {on}, worst first",
        "tensor",
        *(Column(title=title) for title in ("SQNR dB", "same integers", "largest difference")),
        rows=(_tensor(tensor) for tensor in worst_first(traces.tensors)[:WORST]),
    )
    return Group(grid, *map(Paragraph, _conclusions(finding)), Paragraph(""))


def _tensor(tensor: TensorDifference) -> tuple[str, ...]:
    return (
        tensor.name,
        shown(tensor.sqnr_db, lambda level: f"{level:.1f}"),
        shown(tensor.equal, lambda share: f"{share:.2%}"),
        f"{tensor.largest:.3g}" if isinstance(tensor.steps, NotMeasured) else _steps(tensor.steps),
    )


def _steps(steps: Steps) -> str:
    return f"{steps.largest:.0f} steps" if steps.largest >= 1 else f"{steps.largest:.2f} of a step"


def _conclusions(finding: TensorFinding) -> Iterator[str]:
    first: Measurement[str] = finding.first
    if not isinstance(first, NotMeasured):
        yield f"they part first in {first}"
    elif isinstance(finding.loss, NotMeasured):
        yield first.reason
    if not isinstance(finding.loss, NotMeasured):
        loss = finding.loss
        yield f"INT8 costs most in {loss.name}: from {loss.source_db:.1f} dB ({loss.source}) to {loss.sqnr_db:.1f} dB"
