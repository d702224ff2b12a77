"""`report.html`: one self-contained page, readable on a phone, light and dark, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from rexnet_export.apps.summary import COLUMNS, rows
from rexnet_export.pipeline.records import NotMeasured
from rexnet_export.pipeline.report import FileResult, Report, environment

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
p.lead { margin: .25rem 0 1.5rem; opacity: .75; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; font-size: .85rem; opacity: .75; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
table.facts td { text-align: left; white-space: normal; vertical-align: top; }
table.facts td:first-child { opacity: .7; width: 20%; padding-left: 0; }
code { font-size: .85em; overflow-wrap: anywhere; }
.note { border-left: 3px solid #c80; padding-left: .8rem; margin: 1rem 0; }
"""


def render(report: Report) -> str:
    """The page of one export."""
    reference = report.reference
    top1 = "" if isinstance(reference.top1, NotMeasured) else f", top-1 {reference.top1:.2%}"
    lead = f"Float reference: {reference.executed_by} on {reference.n:,} images of {reference.images}{top1}"
    parts = [
        f"<h1>{escape(report.card.name)} · {report.precision}</h1>",
        f'<p class="lead">{escape(lead)}</p>',
        _results(report),
        *(_note(name, result.artifact) for name, result in report.targets.items()),
        "<h2>Confidence</h2>",
        _facts(_intervals(report)),
        "<h2>Files</h2>",
        _facts(_files(report)),
        "<h2>How it was made</h2>",
        _facts(_origin(report)),
        "<h2>Machine and tools</h2>",
        _facts(_machine()),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.card.name)} {report.precision}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _results(report: Report) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(report))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _note(name: str, file: FileResult) -> str:
    if not isinstance(file.executed_by, NotMeasured):
        return ""
    return f'<p class="note"><b>{escape(name)} was not executed.</b> {escape(file.executed_by.reason)}</p>'


def _intervals(report: Report) -> Iterable[tuple[str, str]]:
    for name, result in report.targets.items():
        accuracy, sqnr = result.artifact.accuracy, result.artifact.logit_sqnr_db
        if not isinstance(accuracy, NotMeasured):
            noise = "" if isinstance(sqnr, NotMeasured) else f"; logit SQNR {sqnr:.1f} dB"
            drop, limit = accuracy.drop * 100, accuracy.drop_upper_95 * 100
            yield name, f"drop {drop:+.2f} points, below {limit:.2f} with 95 % confidence (n = {accuracy.n:,}){noise}"


def _files(report: Report) -> Iterable[tuple[str, str]]:
    for name, result in report.targets.items():
        for file in (result.artifact, *result.presets.values()):
            executed = file.executed_by
            ran = "not executed" if isinstance(executed, NotMeasured) else f"executed by {executed}"
            yield name, f"{file.file.path.name}, {file.file.bytes:,} bytes, {ran}, sha256 {file.file.sha256}"


def _origin(report: Report) -> Iterable[tuple[str, str]]:
    card, parity, calibration = report.card, report.onnx_parity, report.calibration
    yield "checkpoint sha256", card.checkpoint_sha256
    yield (
        "input",
        f"{card.preprocess.size} px, {card.preprocess.interpolation}, crop ratio {card.preprocess.crop_ratio}",
    )
    yield "classes", str(len(card.labels))
    difference = f"largest logit difference {parity.max_abs_difference:.2g}"
    yield "float ONNX against torch", f"{difference} on {parity.n} images, top-1 equal on {parity.same_top1}"
    if calibration:
        yield (
            "calibration",
            f"{calibration.images} images of {calibration.source}, {calibration.statistic}, seed {calibration.seed}",
        )
    yield "seconds", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report.seconds.items())


def _machine() -> Iterable[tuple[str, str]]:
    facts = environment()
    packages: Mapping[str, str | None] = facts.pop("packages")
    yield from ((name, str(value)) for name, value in facts.items())
    yield "packages", ", ".join(f"{name} {version}" for name, version in packages.items() if version)


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    rows_ = "".join(f"<tr><td>{escape(name)}</td><td><code>{escape(value)}</code></td></tr>" for name, value in pairs)
    return f'<table class="facts"><tbody>{rows_}</tbody></table>'
