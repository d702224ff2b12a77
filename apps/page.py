"""`report.html`: one self-contained page, readable on a phone, light and dark, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from rexnet_export.apps.page_quantization import float_section, section
from rexnet_export.apps.page_table import table
from rexnet_export.apps.summary import COLUMNS, files, reasons, rows
from rexnet_export.pipeline.evaluate import Accuracy
from rexnet_export.pipeline.records import NotMeasured
from rexnet_export.pipeline.report import Report, environment

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); --mark: #2f81d0; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
p.lead { margin: .25rem 0 1.5rem; opacity: .75; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; font-size: .85rem; opacity: .75; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
table.facts td { text-align: left; white-space: normal; vertical-align: top; }
table.facts td:first-child { opacity: .7; width: 20%; }
code { font-size: .85em; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: 1.5rem; overflow: visible; }
svg .zero { stroke: currentColor; opacity: .4; } svg .limit { stroke: var(--mark); stroke-width: 2; }
svg circle { fill: var(--mark); }
.note { border-left: 3px solid #c80; padding-left: .8rem; margin: 1rem 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  .wide { font-size: .8rem; } .wide th { font-size: .75rem; }
  .wide th, .wide td { padding: .4rem .25rem; } .wide :is(th, td):first-child { padding-left: 0; white-space: normal; }
  .results :is(th, td):nth-child(2) { display: none; }
}
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
        *(f'<p class="note">{escape(reason)}</p>' for reason in reasons(report)),
        _drops(report),
        section(report.quality),
        float_section(report.mixed),
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
    cells = [[escape(cell) for cell in row] for row in rows(report)]
    return f'<div class="results">{table([escape(column) for column in COLUMNS], cells)}</div>'


def _drops(report: Report) -> str:
    """Each file's drop (dot) and its upper 95 % limit (end of the bar) on one scale, against a line at zero."""
    measured = {name: file.accuracy for name, file in files(report) if not isinstance(file.accuracy, NotMeasured)}
    if not measured:
        return ""
    low = min(0.0, *(accuracy.drop for accuracy in measured.values()))
    high = max(0.0, *(accuracy.drop_upper_95 for accuracy in measured.values()))
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{_interval(accuracy, low, high)}<code>{_said(accuracy)}</code></td></tr>"
        for name, accuracy in measured.items()
    )
    return f'<h2>Accuracy lost against the float reference</h2><table class="facts"><tbody>{body}</tbody></table>'


def _interval(accuracy: Accuracy, low: float, high: float) -> str:
    def x(drop: float) -> str:
        return f"{2 + 96 * (drop - low) / (high - low or 1.0):.2f}%"

    return (
        f'<svg role="img" aria-label="{_said(accuracy)}">'
        f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="0" y2="100%"/>'
        f'<line class="limit" x1="{x(accuracy.drop)}" x2="{x(accuracy.drop_upper_95)}" y1="50%" y2="50%"/>'
        f'<circle cx="{x(accuracy.drop)}" cy="50%" r="5"/></svg>'
    )


def _said(accuracy: Accuracy) -> str:
    drop, limit = accuracy.drop * 100, accuracy.drop_upper_95 * 100
    return f"{drop:+.2f} points, below {limit:.2f} with 95&nbsp;% confidence (n = {accuracy.n:,})"


def _files(report: Report) -> Iterable[tuple[str, str]]:
    for name, file in files(report):
        executed, sqnr = file.executed_by, file.logit_sqnr_db
        ran = "not executed" if isinstance(executed, NotMeasured) else f"executed by {executed}"
        noise = f"not measured: {sqnr.reason}" if isinstance(sqnr, NotMeasured) else f"{sqnr:.1f} dB"
        said = ran if sqnr == executed else f"{ran}, logit SQNR {noise}"
        yield name, f"{file.file.path.name}, {file.file.bytes:,} bytes, {said}, sha256 {file.file.sha256}"


def _origin(report: Report) -> Iterable[tuple[str, str]]:
    card, parity, calibration = report.card, report.onnx_parity, report.calibration
    yield "when", report.created
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
