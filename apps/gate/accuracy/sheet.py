"""What `rexnet-gate check` found, as rows and measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rexnet_export.apps.gate.accuracy.result import Check, Flip, GateResult
from rexnet_export.apps.gate.accuracy.terminal_tables import figures, flipped, told
from rexnet_export.apps.gate.accuracy.words import check_words, images_said, result_words, subject
from rexnet_export.apps.gate.outputs.sheet import Metric, Row, Sheet
from rexnet_export.apps.gate.words import OnInconclusive
from rexnet_export.apps.shared.html.flips import SHOWN, Card, said

COMMAND = "rexnet-gate check"


def sheet(result: GateResult, pictures: Mapping[str, bytes]) -> Sheet:
    """One row for each check; `pictures` (PNG) are of flipped images, by id."""
    against = "" if result.baseline is None else f" against {result.baseline}"
    return Sheet(
        command=COMMAND,
        title=f"{result.model} {result.precision}, {images_said(result)}: {result.candidate}{against}",
        words=result_words(result),
        created=result.created,
        rows=tuple(_row(check, result.policy.on_inconclusive) for check in result.checks),
        notes=result.notes,
        metrics=tuple(_metrics(result)),
        lists=flipped(result),
        cards={
            title: tuple(_card(flip, pictures.get(flip.id)) for flip in check.flips[:SHOWN])
            for title, check in told(result).items()
        },
    )


def _row(check: Check, on_inconclusive: OnInconclusive) -> Row:
    asked = subject(check)
    return Row(
        target=asked.target,
        check=asked.check,
        words=check_words(check, on_inconclusive),
        figures=figures(check),
    )


def _card(flip: Flip, picture: bytes | None) -> Card:
    lines = (
        said("reference", flip.reference, flip.reference_confidence),
        said("candidate", flip.candidate, flip.candidate_confidence),
    )
    return Card(id=flip.id, label=flip.label, lines=lines, picture=picture)


def _metrics(result: GateResult) -> Iterator[Metric]:
    """Of every network its top-1, which is the same in all its checks, and the drop in each; percent and points."""
    seen = set()
    for check in result.checks:
        numbers = check.numbers
        if numbers is None:
            continue
        measured = f"{result.model} {result.precision} {check.target}"
        if check.target not in seen:
            seen.add(check.target)
            top1 = round(100 * numbers.top1, 4)
            error = round(100 * (1 - numbers.top1), 4)
            yield Metric(subject=measured, measure="top-1", value=top1, unit="%", better="bigger")
            yield Metric(subject=measured, measure="top-1 error", value=error, unit="%", better="smaller")
        bounded = check.decided_by == "statistics"  # a drop that is none by construction has no limits
        drop, lower, upper, margin = (
            round(100 * value, 4) for value in (numbers.drop, numbers.drop_lower, numbers.drop_upper, numbers.margin)
        )
        yield Metric(
            subject=measured,
            measure=f"drop {check.name}",
            value=drop,
            unit="points",
            better="neither",
            lower=lower if bounded else None,
            upper=upper if bounded else None,
            allowed=margin if bounded else None,
        )
