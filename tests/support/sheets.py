"""Sheets with one row of every status, and with texts that try to be more than text."""

from __future__ import annotations

from typing import get_args

from rexnet_export.apps.gate.outputs.sheet import Metric, Row, Sheet
from rexnet_export.apps.gate.words import Status, Words
from rexnet_export.apps.shared.html.flips import Card

STATUSES: tuple[Status, ...] = get_args(Status.__value__)
HOSTILE = (
    "a|b",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "@octocat #1 owner/repo#2",
    "`code` *bold* _em_ ~~no~~ $x^2$",
    "[text](https://example.org) ![image](//x) www.example.org mailto:a@b.c",
    "two\nlines\r\nand a \x1b[31mred\x00 \ud83d bell\x07\u2028",
    "::error title=x::y%0Az, 100%",
    "]]> --> <!-- </details> {{ x }} :tada: snake_case_name",
)


def row(status: Status, target: str = "ort x86", check: str = "", message: str = "all is well") -> Row:
    """A row with two figures."""
    return Row(
        target=target,
        check=check or status,
        words=Words(verdict=status.upper(), status=status, reason=message),
        figures={"top-1": "93.45%", "drop": "+0.01"},
    )


def sheet(*rows: Row, **changed: object) -> Sheet:
    """A sheet of these rows, by default one of every status."""
    content: dict[str, object] = {
        "command": "rexnet-gate check",
        "title": "rexnet_100 int8, 10,000 images",
        "words": Words(verdict="FAIL", status="failed", reason="ort x86 is worse"),
        "created": "2026-11-24T12:00:00+00:00",
        "rows": rows or tuple(map(row, STATUSES)),
        "metrics": (
            Metric(subject="net ort", measure="top-1", value=93.45, unit="%", better="bigger"),
            Metric(subject="net ort", measure="top-1 error", value=6.55, unit="%", better="smaller"),
            Metric(
                subject="net ort",
                measure="drop baseline",
                value=-0.1,
                unit="points",
                better="neither",
                lower=-0.3,
                upper=0.2,
            ),
            Metric(
                subject="net.ort", measure="latency", value=12.5, unit="ms", better="smaller", lower=12.0, upper=13.25
            ),
        ),
    }
    return Sheet(**(content | changed))  # type: ignore[arg-type]


CANARY_TEXT = "\x1b[31mowl\x07\x9b8m\u202e##[error]no\n::error::x\r<script>alert(1)</script>"


def canary_sheet() -> Sheet:
    """A sheet whose every text is hostile."""
    bad = CANARY_TEXT
    return sheet(
        Row(
            target=bad,
            check=bad,
            words=Words(verdict=bad, status="failed", reason=bad, next_step=bad),
            figures={bad: bad},
        ),
        title=bad,
        words=Words(verdict=bad, status="failed", reason=bad, next_step=bad),
        notes=(bad,),
        metrics=(
            Metric(subject=bad, measure=bad, value=1.0, unit=bad, better="smaller", lower=0.5, upper=2.0, allowed=1.5),
            Metric(subject=bad, measure=bad, value=1.0, unit=bad, better="bigger"),
        ),
        lists={bad: (bad,)},
        cards={bad: (Card(id=bad, label=bad, lines=(bad,), picture=b"png"),)},
    )
