"""The gate's findings as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from rexnet_export.apps.gate.accuracy.plan import Plan
from rexnet_export.apps.gate.accuracy.result import Check, Flip, GateResult
from rexnet_export.apps.gate.accuracy.words import check_words, images_said, reasons
from rexnet_export.apps.gate.baseline.update import Updated
from rexnet_export.apps.gate.words import OnInconclusive
from rexnet_export.apps.shared.terminal_table import Cell, Column, FittedTable, Paragraph
from rexnet_export.apps.shared.text import counted

MOST_FLIPS = 10  # shown; all are in the JSON
COLUMNS = ("network", "check", "verdict", "top-1", "drop", "limits 95%", "p", "differ", "agree")
LESS = ("p", "agree", "differ")  # go first where a terminal has no room


def table(result: GateResult) -> Group:
    """One row for each check, then every reason for what is no pass once, and the images that flipped."""
    title = f"{result.model} {result.precision}: {images_said(result)}, {result.candidate}"
    columns = [
        Column(title=name, left=name in COLUMNS[:3], spare=LESS.index(name) + 1 if name in LESS else 0)
        for name in COLUMNS
    ]
    grid = FittedTable(title, columns, [_row(check, result.policy.on_inconclusive) for check in result.checks])
    lines = [reason.line for reason in reasons(result)]
    return Group(grid, *map(Paragraph, [*lines, *result.notes]), *_flipped(result))


def _row(check: Check, on_inconclusive: OnInconclusive) -> list[Cell]:
    words = check_words(check, on_inconclusive)
    return [check.target, check.name, Text(words.verdict, style=words.style), *figures(check).values()]


def figures(check: Check) -> dict[str, str]:
    """The numbers of one check as people read them, by column."""
    return dict(zip(COLUMNS[3:], _cells(check), strict=True))


def _cells(check: Check) -> tuple[str, ...]:
    numbers = check.numbers
    if numbers is None:
        if check.ratio is None:
            return ("-",) * (len(COLUMNS) - 3)
        return (f"{check.ratio.observed:.2%}", "of", f"{check.ratio.ratio:.1%}", "-", "-", "-")
    limits, p = f"{100 * numbers.drop_lower:+.2f} {100 * numbers.drop_upper:+.2f}", f"{numbers.p:.2g}"
    if check.decided_by != "statistics":
        limits, p = "-" if check.decided_by == "agreement" else check.decided_by, "-"
    return (
        f"{numbers.top1:.2%}",
        f"{100 * numbers.drop:+.2f}",
        limits,
        p,
        f"{numbers.discordance:.2%}",
        f"{numbers.agreement:.2%}",
    )


def flipped(result: GateResult) -> dict[str, tuple[str, ...]]:
    """By title the first flipped images of every failed check, and of the artifacts' comparisons with baselines
    and devices."""
    found: dict[str, tuple[str, ...]] = {}
    for title, check in told(result).items():
        rest = len(check.flips) - MOST_FLIPS
        more = (f"and {rest:,} more, all in --json",) if rest > 0 else ()
        found[title] = (*map(_flip, check.flips[:MOST_FLIPS]), *more)
    return found


def told(result: GateResult) -> dict[str, Check]:
    """By title the checks whose flipped images people want to see."""
    return {
        f"{check.target} {check.name}: {counted(len(check.flips), 'image')} flipped": check
        for check in result.checks
        if check.flips and (check.failed or check.name in {"baseline", "float", "device"})
    }


def _flipped(result: GateResult) -> Iterator[Paragraph]:
    for title, lines in flipped(result).items():
        yield Paragraph(title)
        yield from (Paragraph(f"  {line}") for line in lines)


def _flip(flip: Flip) -> str:
    return (
        f"{flip.id} ({flip.label}): {flip.reference}{_percent(flip.reference_confidence)} -> "
        f"{flip.candidate}{_percent(flip.candidate_confidence)}"
    )


def _percent(confidence: float | None) -> str:
    return "" if confidence is None else f" {confidence:.0%}"


def plan_table(found: Plan) -> Group:
    """What can be decided, a row for each power."""
    margin = f"{100 * found.margin:g}"
    title = f"{found.images:,} images, {100 * found.discordance:g}% discordant, margin {margin} points"
    columns = (
        "power",
        f"find -{margin}",
        f"show < {margin}, no drop",
        f"show < {margin}, half of it",
        "smallest drop found",
        "smallest margin shown",
    )
    grid = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for column in columns:  # long titles wrap between words
        grid.add_column(column, justify="right" if column != "power" else "left")
    for row in found.rows:
        grid.add_row(
            f"{row.power:.0%}",
            "impossible" if row.to_detect is None else f"{row.to_detect:,}",
            f"{row.to_prove:,}",
            f"{row.to_prove_half:,}",
            "-" if row.detectable_drop is None else f"{100 * row.detectable_drop:.2f} points",
            f"{100 * row.provable_margin:.2f} points",
        )
    last = f"{found.missing:,} more images are needed" if found.missing else "these images suffice"
    below = f"To pass a candidate without any drop in 80 of 100 runs, {last}."
    return Group(Paragraph(title, "italic"), grid, Paragraph(below))


def update_table(updated: Sequence[Updated]) -> FittedTable:
    """Old and new top-1 of every baseline."""
    columns = (
        Column(title="target", left=True),
        Column(title="file", name=True),
        Column(title="old top-1"),
        Column(title="new top-1"),
    )
    return FittedTable("", columns, [_updated(one) for one in updated])


def _updated(one: Updated) -> list[str]:
    old = "-" if one.old_top1 is None else f"{one.old_top1:.2%}"
    return [one.target, str(one.path), old, f"{one.new_top1:.2%}" if one.changed else "unchanged"]
