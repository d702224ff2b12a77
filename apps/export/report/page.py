"""`report.html`: the page of one export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from rexnet_export.apps.export.accuracy_verdict import accuracy_verdicts
from rexnet_export.apps.export.options import GPU
from rexnet_export.apps.export.report import first_screen
from rexnet_export.apps.export.report.classes import class_section, class_warnings
from rexnet_export.apps.export.report.network import network_section
from rexnet_export.apps.export.report.noise import noise_notes
from rexnet_export.apps.export.report.quantization import float_section, section
from rexnet_export.apps.export.summary_table import explained, files, reasons
from rexnet_export.apps.shared.html import document
from rexnet_export.apps.shared.html.flips import SHOWN, Card, said
from rexnet_export.apps.shared.html.plots import latency_plot, layer_plot
from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.data.settle import shown
from rexnet_export.pipeline.machine.environment import recorded_environment
from rexnet_export.pipeline.proof.tensor_noise import TensorNoise
from rexnet_export.pipeline.report.report import Report


def render(report: Report, pictures: Mapping[str, bytes]) -> str:
    """The page of one export; `pictures` are PNGs, by id, of the images that its flips list."""
    reference, noisy = report.reference, _noisy(report)
    top1 = "" if isinstance(reference.top1, NotMeasured) else f", top-1 {reference.top1:.2%}"
    samples = dict(_samples(report))
    return document.render(
        __package__,
        "report.html",
        title=f"{report.card.name} {report.precision}",
        name=report.card.name,
        precision=report.precision,
        notices=report.notices,
        lead=f"Float reference: {reference.executed_by} on {reference.n:,} images of {reference.images}{top1}",
        columns=first_screen.HEAD,
        rows=list(first_screen.rows(report)),
        uses=list(first_screen.uses(report)),
        verdicts=list(accuracy_verdicts(report)),
        class_warnings=list(class_warnings(report)),
        classes=class_section(report),
        notes=[*explained(report), *reasons(report), *noise_notes(report)],
        drops=list(_drops(report)),
        latencies=latency_plot(samples) if samples else "",
        layers=layer_plot(noisy) if noisy else "",
        network=network_section(noisy, report.table),
        lowest=", ".join(f"{tensor} {level:.1f} dB ({name})" for name, (level, tensor) in _lowest(noisy)),
        search=section(report.quality, len(report.card.labels)),
        float_layers=float_section(report.mixed),
        **_flips(report, pictures),
        files=list(_files(report)),
        origin=list(_origin(report)),
        machine=list(_machine()),
    )


def _samples(report: Report) -> Iterator[tuple[str, Sequence[float]]]:
    """Milliseconds of every file, each INT8 file's before those of its float form."""
    for name, file in files(report):
        if isinstance(file.latency, NotMeasured):
            continue
        yield name, file.latency.samples_ms
        if not isinstance(file.float_latency, NotMeasured):
            yield f"{name}, its float form", file.float_latency.samples_ms


def _drops(report: Report) -> Iterator[dict[str, str]]:
    """Each file's drop (dot) and its upper 95 % limit (end of the bar) on one scale, against a line at zero.

    The reference's own file is compared with itself, and has neither.
    """
    measured = {
        name: file.accuracy
        for name, file in files(report)
        if name != GPU and not isinstance(file.accuracy, NotMeasured)
    }
    low = min(0.0, *(accuracy.drop for accuracy in measured.values()), 0.0)
    high = max(0.0, *(accuracy.drop_upper_95 for accuracy in measured.values()), 0.0)

    def x(drop: float) -> str:
        return f"{2 + 96 * (drop - low) / (high - low or 1.0):.2f}%"

    for name, accuracy in measured.items():
        yield {
            "name": name,
            "points": f"{accuracy.drop * 100:+.2f}",
            "below": f"{accuracy.drop_upper_95 * 100:.2f}",
            "n": f"{accuracy.n:,}",
            "zero": x(0),
            "at": x(accuracy.drop),
            "limit": x(accuracy.drop_upper_95),
        }


def _noisy(report: Report) -> dict[str, Sequence[TensorNoise]]:
    """The tensors of the files whose noise could be measured."""
    traced = {name: tensors for name, tensors in report.layers.items() if not isinstance(tensors, NotMeasured)}
    return {n: tensors for n, tensors in traced.items() if any(not isinstance(t.sqnr_db, NotMeasured) for t in tensors)}


def _lowest(layers: Mapping[str, Sequence[TensorNoise]]) -> Iterator[tuple[str, tuple[float, str]]]:
    """The noisiest tensor of each file."""
    for name, tensors in layers.items():
        yield name, min((t.sqnr_db, t.tensor) for t in tensors if not isinstance(t.sqnr_db, NotMeasured))


def _flips(report: Report, pictures: Mapping[str, bytes]) -> dict[str, object]:
    flips = report.flips
    if isinstance(flips, NotMeasured) or not flips.images:
        return {"flips": "", "cards": []}
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
    return {"flips": lead, "cards": cards}


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
    if not isinstance(report.seconds, NotMeasured):
        yield "seconds", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in report.seconds.items())


def _machine() -> Iterable[tuple[str, str]]:
    facts = recorded_environment()
    yield from ((name, str(value)) for name, value in facts.items() if name != "packages" and value is not None)
    yield "packages", ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
