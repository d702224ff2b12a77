"""What `rexnet-bench gpu` shows: speed by form and batch, accuracy by form, and what could not be had."""

from __future__ import annotations

from collections.abc import Iterator

from rexnet_export.apps.bench.gpu.gpu_json import CellJson, FormJson, GpuJson
from rexnet_export.apps.shared.terminal_table import Column, FittedTable
from rexnet_export.apps.shared.text import shown, unmeasured_lines
from rexnet_export.pipeline.core.records import Measurement, NotMeasured

CLOCKS = ("MHz", "W")
LESS = ("roof", "peak", "GFLOP/s", *CLOCKS)  # go first where a terminal has no room
SPEED = ("form", "batch", "p50 ms", "images/s", "GFLOP/s", "peak", "roof", *CLOCKS)


def speed_table(found: GpuJson) -> FittedTable:
    """A row for each cell that was measured."""
    height, width, _ = found.model.input
    columns = SPEED if found.device.is_gpu else SPEED[: -len(CLOCKS)]
    return FittedTable(
        f"{found.model.name}, {height} x {width}, on {found.device.name}",
        [
            Column(title=name, left=name == "form", spare=LESS.index(name) + 1 if name in LESS else 0)
            for name in columns
        ],
        [[name, *list(_speed(cell))[: len(columns) - 1]] for name, cell in found.cells()],
    )


def _speed(cell: CellJson) -> Iterator[str]:
    timing = cell.timing
    yield str(timing.batch)
    yield f"{timing.p50_ms:.3f}" + ("" if timing.steady else "?")
    yield f"{timing.images_per_s:,.0f}"
    yield f"{cell.flops / 1e9:,.1f}"
    yield shown(cell.peak_share, lambda value: f"{value:.1%}")
    yield shown(cell.roofline_share, lambda value: f"{value:.1%}")
    yield shown(timing.clocks, lambda clocks: str(clocks.sm_mhz))
    yield shown(timing.clocks, lambda clocks: f"{clocks.power_w:.0f}")


def accuracy_table(found: GpuJson) -> FittedTable:
    """A row for each form that answered."""
    columns = [Column(title="form", left=True)]
    columns += [Column(title=title) for title in ("top-1", "drop, pt", "at most", "agree")]
    columns += [Column(title="what it is", sentence=True)]
    answered = [each for each in found.forms.items() if not isinstance(each[1].executed_by, NotMeasured)]
    title = "accuracy beside the float reference in torch, paired by image"
    return FittedTable(title, columns, [_accuracy(*each) for each in answered])


def _accuracy(name: str, form: FormJson) -> list[str]:
    return [
        name,
        shown(form.accuracy, lambda value: f"{value.top1:.2%}"),
        shown(form.accuracy, lambda value: f"{100 * value.drop:+.2f}"),
        shown(form.accuracy, lambda value: f"{100 * value.drop_upper_95:+.2f}"),
        shown(form.agreement_with_reference, lambda value: f"{value:.2%}"),
        form.says,
    ]


def lines(found: GpuJson) -> Iterator[str]:
    """The device's peak, what limits evaluation, and every reason once."""
    if not found.device.is_gpu:
        yield "CPU: no figure here is a GPU's"
    for numbers, flops in found.peak.flops.items():
        yield f"peak {numbers}: {_product(flops)}"
    yield f"peak memory: {found.peak.bandwidth / 1e9:,.0f} GB/s in a large copy"
    if isinstance(found.feed, NotMeasured):
        yield f"evaluation's limit is not measured: {found.feed.reason}"
    else:
        feed = found.feed
        yield (
            f"evaluation of {feed.n:,} images, {feed.form} at batch {feed.batch}: decoder alone "
            f"{feed.decoder_images_per_s:,.0f} images/s, network alone {feed.network_images_per_s:,.0f}, together "
            f"{feed.fed_images_per_s:,.0f}: the {feed.limit} is the limit"
        )
    yield from _reasons(found)


def _product(flops: Measurement[float]) -> str:
    return flops.reason if isinstance(flops, NotMeasured) else f"{flops / 1e9:,.0f} GFLOP/s in a large product"


def _reasons(found: GpuJson) -> Iterator[str]:
    forms = ((name, cell) for name, form in found.forms.items() for cell in form.batches.values())
    clocks = (cell.timing.clocks for _, cell in found.cells() if isinstance(cell.timing.clocks, NotMeasured))
    values = (*forms, ("clocks and power", next(clocks, None)), ("accuracy", found.images))
    yield from (f"not measured: {line}" for line in unmeasured_lines(values))
    if any(not cell.timing.steady for _, cell in found.cells()):
        yield "? changed its speed by more than a tenth while it was timed"
