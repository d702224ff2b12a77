"""`report.html`: the page of one export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape

from rexnet_export.apps.export.report_quantization import float_section, section
from rexnet_export.apps.export.summary_table import COLUMNS, files, reasons, rows
from rexnet_export.apps.shared.html.document import document, facts
from rexnet_export.apps.shared.html.flips import SHOWN, Card, grid, said
from rexnet_export.apps.shared.html.plots import latency_plot, layer_plot
from rexnet_export.apps.shared.html.table import table
from rexnet_export.pipeline.core.environment import environment
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.data.settle import shown
from rexnet_export.pipeline.export.report import Report
from rexnet_export.pipeline.proof.evaluate import Accuracy
from rexnet_export.pipeline.proof.margin import MARGIN
from rexnet_export.pipeline.proof.tensor_noise import TensorNoise


def render(report: Report, pictures: Mapping[str, bytes]) -> str:
    """The page of one export; `pictures` are PNGs, by id, of the images that its flips list."""
    reference = report.reference
    top1 = "" if isinstance(reference.top1, NotMeasured) else f", top-1 {reference.top1:.2%}"
    lead = f"Float reference: {reference.executed_by} on {reference.n:,} images of {reference.images}{top1}"
    parts = [
        f"<h1>{escape(report.card.name)} · {report.precision}</h1>",
        *(f'<p class="note open">{escape(notice)}</p>' for notice in report.notices),
        f'<p class="lead">{escape(lead)}</p>',
        _results(report),
        *_verdicts(report),
        *(f'<p class="note">{escape(reason)}</p>' for reason in reasons(report)),
        _drops(report),
        _latencies(report),
        _layers(report),
        section(report.quality),
        float_section(report.mixed),
        _flips(report, pictures),
        "<h2>Files</h2>",
        facts(_files(report)),
        "<h2>How it was made</h2>",
        facts(_origin(report)),
        "<h2>Machine and tools</h2>",
        facts(_machine()),
    ]
    return document(f"{report.card.name} {report.precision}", parts)


def _results(report: Report) -> str:
    cells = [[escape(cell) for cell in row] for row in rows(report)]
    return f'<div class="results">{table([escape(column) for column in COLUMNS], cells)}</div>'


def _verdicts(report: Report) -> Iterator[str]:
    """Which files are shown to keep the gate's margin against the float network, and which are not."""
    limits = {n: file.accuracy.drop_upper_95 for n, file in files(report) if not isinstance(file.accuracy, NotMeasured)}
    kept = [name for name, limit in limits.items() if limit < MARGIN / 100]
    rest = [name for name in limits if name not in kept]
    if kept:
        said = f"PASS: less than {MARGIN:g} points lost, with 95 % confidence: {', '.join(kept)}"
        yield f'<p class="note good">{escape(said)}</p>'
    if rest:
        said = f"Not shown to lose less than {MARGIN:g} points: {', '.join(rest)}; rexnet-gate check says why"
        yield f'<p class="note open">{escape(said)}</p>'


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


def _latencies(report: Report) -> str:
    samples = {n: file.latency.samples_ms for n, file in files(report) if not isinstance(file.latency, NotMeasured)}
    if not samples:
        return ""
    lead = "Batch 1, one thread, files in turns: every run, with median and quartiles."
    return f'<h2>Time of one image</h2><p class="lead">{lead}</p>{latency_plot(samples)}'


def _layers(report: Report) -> str:
    traced = {name: tensors for name, tensors in report.layers.items() if not isinstance(tensors, NotMeasured)}
    noisy = {
        n: tensors for n, tensors in traced.items() if any(not isinstance(t.sqnr_db, NotMeasured) for t in tensors)
    }
    if not noisy:
        return ""
    lead = "Every tensor of the files against the float network's; report.json has all numbers. Lowest: "
    lowest = (f"{tensor} {level:.1f} dB ({name})" for name, (level, tensor) in _lowest(noisy))
    return f'<h2>Where precision is lost</h2><p class="lead">{lead}{escape(", ".join(lowest))}.</p>{layer_plot(noisy)}'


def _lowest(layers: Mapping[str, Sequence[TensorNoise]]) -> Iterator[tuple[str, tuple[float, str]]]:
    """The noisiest tensor of each file."""
    for name, tensors in layers.items():
        yield name, min((t.sqnr_db, t.tensor) for t in tensors if not isinstance(t.sqnr_db, NotMeasured))


def _flips(report: Report, pictures: Mapping[str, bytes]) -> str:
    flips = report.flips
    if isinstance(flips, NotMeasured) or not flips.images:
        return ""
    lead = f"{flips.images:,} of {report.reference.n:,} images get another class in at least one file."
    lead += f" These {SHOWN} in the most files." if flips.images > SHOWN else ""
    cards = [
        Card(
            id=image.id,
            label=image.label,
            lines=(
                said("float", image.reference.name, image.reference.probability),
                *(said(name, other.name, other.probability) for name, other in image.others.items()),
            ),
            picture=pictures.get(image.id),
        )
        for image in flips.listed[:SHOWN]
    ]
    return f'<h2>Flipped images</h2><p class="lead">{lead}</p>{grid(cards)}'


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
    for name, value in asdict(card.preprocess).items():
        yield name.replace("_", " "), f"{shown(value)} ({card.preprocess_source.get(name, 'not said by whom')})"
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
    yield from ((name, str(value)) for name, value in facts.items() if name != "packages")
    yield "packages", ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
