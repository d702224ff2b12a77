"""Forms one after another on one device: peaks first, then of each form its answers and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray

from rexnet_export.apps.bench.gpu.gpu_json import CellJson, DeviceJson, FeedJson, FormJson, GpuJson, ModelJson, PeakJson
from rexnet_export.apps.bench.gpu.subject import Subject
from rexnet_export.pipeline.accuracy.evaluate import Accuracy, Logits, accuracy, agreement, finite
from rexnet_export.pipeline.core.errors import ExportError, InvalidMeasurement, first_line
from rexnet_export.pipeline.core.progress import Bar, Progress
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.data.selection import Images
from rexnet_export.pipeline.data.sources import batches, images_sha256
from rexnet_export.pipeline.machine.environment import environment
from rexnet_export.pipeline.model.torch_session import open_reference
from rexnet_export.targets.gpu.clocks import ReadClocks, clock_reader
from rexnet_export.targets.gpu.feed import fed
from rexnet_export.targets.gpu.forms import FORMS, Form, Machine, Numbers, Opened, why_not
from rexnet_export.targets.gpu.measure import Cell, answers, measure
from rexnet_export.targets.gpu.onnx_forms import open_onnx
from rexnet_export.targets.gpu.peak import BYTES, Layer, copy_bandwidth, layers, product_flops, roofline_s
from rexnet_export.targets.gpu.tensorrt_graph import without_uint8
from rexnet_export.targets.gpu.torch_forms import open_torch

ANSWERED = 64  # images at once where accuracy is measured
FED = ("fp16", "channels-last")  # the form that is fed: the first that there is
NO_PRODUCT: Mapping[Numbers, NotMeasured] = {
    "int8": NotMeasured(reason="torch has no public product of INT8 matrices to compare with")
}
UNASKED = NotMeasured(reason=f"neither of {', '.join(FED)} was measured")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which cells to measure: forms by name, batch sizes in ascending order, seconds for each."""

    forms: Sequence[str]
    batches: Sequence[int]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What all forms are measured with, and against."""

    subject: Subject
    asked: Asked
    machine: Machine
    clocks: ReadClocks
    peak: PeakJson
    work: Sequence[Layer]
    reference: Measurement[Logits]

    def pixels(self, images: Images, size: int) -> Iterator[NDArray[np.uint8]]:
        return batches(images.source, self.subject.preprocess, images.indices, size)


def measure_forms(subject: Subject, asked: Asked, machine: Machine, progress: Progress) -> GpuJson:
    """Everything that was asked for; what cannot be had is there with its reason."""
    network, images = subject.checkpoint.network, subject.images
    work = layers(network, subject.preprocess)
    bench = _Bench(
        subject=subject,
        asked=asked,
        machine=machine,
        clocks=clock_reader(machine.device),
        peak=_peak([FORMS[name] for name in asked.forms], machine, progress),
        work=work,
        reference=images if isinstance(images, NotMeasured) else _reference(subject, images, machine, progress),
    )
    with progress.stage("measuring forms", len(asked.forms) * len(asked.batches), "cells") as bar:
        forms = {name: _form(FORMS[name], bench, bar) for name in asked.forms}
    height, width = subject.preprocess.shape
    return GpuJson(
        device=_device(machine),
        model=ModelJson(
            name=network.spec.name,
            sha256=subject.checkpoint.file.sha256,
            input=(height, width, subject.preprocess.channels),
            macs=sum(layer.macs for layer in work),
        ),
        images=images if isinstance(images, NotMeasured) else images.source.name,
        images_sha256=images if isinstance(images, NotMeasured) else images_sha256(images.source, images.indices),
        seconds_per_cell=asked.seconds,
        peak=bench.peak,
        forms=forms,
        feed=_feed(forms, bench, progress),
        environment=environment(),
    )


def _device(machine: Machine) -> DeviceJson:
    if not machine.is_gpu:
        none = NotMeasured(reason="no CUDA device")
        return DeviceJson(name=machine.name, is_gpu=False, compute_capability=none, memory_bytes=none, torch_cuda=none)
    assert machine.capability is not None
    return DeviceJson(
        name=machine.name,
        is_gpu=True,
        compute_capability="{}.{}".format(*machine.capability),
        memory_bytes=torch.cuda.get_device_properties(machine.device).total_memory,
        torch_cuda=torch.version.cuda or NotMeasured(reason="torch does not say"),
    )


def _peak(forms: Sequence[Form], machine: Machine, progress: Progress) -> PeakJson:
    """Of the number formats that are needed; `InvalidMeasurement` where the device has no memory left for it."""
    wanted = {form.numbers for form in forms if why_not(form, machine) is None}
    try:
        with progress.stage("measuring the device's peak", len(wanted) + 1, "peaks") as bar:
            flops: dict[str, Measurement[float]] = {}
            for numbers in sorted(wanted):
                flops[numbers] = NO_PRODUCT.get(numbers) or product_flops(numbers, machine)
                bar.advance()
            bandwidth = copy_bandwidth(machine)
            bar.advance()
    except torch.OutOfMemoryError as error:
        raise InvalidMeasurement(
            f"{machine.name} has no 2 GiB of memory left to measure its peak; end what else runs there"
        ) from error
    return PeakJson(flops=flops, bandwidth=bandwidth)


def _reference(subject: Subject, images: Images, machine: Machine, progress: Progress) -> Logits:
    session = open_reference(deepcopy(subject.checkpoint.network), subject.preprocess, cuda=machine.is_gpu)
    found = []
    with progress.stage("running the reference", len(images.indices), "images") as bar:
        for pixels in batches(images.source, subject.preprocess, images.indices, ANSWERED):
            found.append(finite(session.run(pixels), session.executed_by))
            bar.advance(len(pixels))
    return np.concatenate(found)


def _open(form: Form, bench: _Bench) -> AbstractContextManager[Opened]:
    subject = bench.subject
    if form.runner == "onnxruntime" and form.numbers != "int8":
        return open_onnx(form, subject.float_model(), bench.machine)
    if form.runner in {"onnxruntime", "tensorrt"}:
        model = subject.symmetric_model() if form.numbers == "int8" else without_uint8(subject.float_model())
        return open_onnx(form, model, bench.machine)
    return open_torch(form, subject.checkpoint.network, subject.preprocess, bench.machine)


def _form(form: Form, bench: _Bench, bar: Bar) -> FormJson:
    """Accuracy, then the batch sizes in ascending order; what fails at one, fails at the larger ones too."""
    problem = why_not(form, bench.machine)
    if problem is None and form.numbers == "int8" and isinstance(bench.subject.table, NotMeasured):
        problem = bench.subject.table.reason
    if problem is None:
        try:
            with _open(form, bench) as opened:
                return _measured(form, opened, bench, bar)
        except Exception as error:  # noqa: BLE001 - a compiler, a driver or a provider fails in any way, and the others go on
            problem = _reason(error)
    bar.advance(len(bench.asked.batches), form.name)
    none = NotMeasured(reason=problem)
    return FormJson(
        says=form.says,
        executed_by=none,
        accuracy=none,
        agreement_with_reference=none,
        batches=dict.fromkeys(map(str, bench.asked.batches), none),
    )


def _measured(form: Form, opened: Opened, bench: _Bench, bar: Bar) -> FormJson:
    accurate, agrees = _answered(opened, bench)
    cells: dict[str, Measurement[CellJson]] = {}
    failed: NotMeasured | None = None
    for batch in bench.asked.batches:
        if failed is None:
            try:
                cells[str(batch)] = _cell(form, opened, batch, bench)
            except Exception as error:  # noqa: BLE001 - as above
                failed = NotMeasured(reason=f"batch {batch}: {_reason(error)}")
        if failed is not None:
            cells[str(batch)] = failed
        bar.advance(1, form.name)
    return FormJson(
        says=form.says,
        executed_by=opened.executed_by,
        accuracy=accurate,
        agreement_with_reference=agrees,
        batches=cells,
    )


def _answered(opened: Opened, bench: _Bench) -> tuple[Measurement[Accuracy], Measurement[float]]:
    images, reference = bench.subject.images, bench.reference
    if isinstance(images, NotMeasured) or isinstance(reference, NotMeasured):
        none = images if isinstance(images, NotMeasured) else reference
        assert isinstance(none, NotMeasured)
        return none, none
    size = min(ANSWERED, len(images.indices))
    bound = opened.bind(next(bench.pixels(images, size)))
    logits = np.concatenate(list(answers(bound, bench.pixels(images, size), size)))
    finite(logits, opened.executed_by)
    assert images.labels is not None
    return accuracy(logits, reference, images.labels), agreement(logits, reference)


def _cell(form: Form, opened: Opened, batch: int, bench: _Bench) -> CellJson:
    shape = (*bench.subject.preprocess.shape, bench.subject.preprocess.channels)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)
    timing = measure(opened.bind(pixels), batch, bench.asked.seconds, bench.clocks)
    flops = 2 * sum(layer.macs for layer in bench.work) * timing.images_per_s
    most = bench.peak.flops[form.numbers]
    return CellJson(
        timing=timing,
        flops=flops,
        peak_share=most if isinstance(most, NotMeasured) else flops / most,
        roofline_share=most if isinstance(most, NotMeasured) else _roofline_share(form, timing, most, bench),
    )


def _roofline_share(form: Form, timing: Cell, flops: float, bench: _Bench) -> float:
    least = roofline_s(bench.work, timing.batch, BYTES[form.numbers], flops, bench.peak.bandwidth)
    return least * timing.images_per_s / timing.batch


def _feed(forms: Mapping[str, FormJson], bench: _Bench, progress: Progress) -> Measurement[FeedJson]:
    """The evaluation images through decoder and network together, at the largest batch that they fill."""
    images = bench.subject.images
    if isinstance(images, NotMeasured):
        return images
    for name in FED:
        timed = [cell.timing for cell in (forms[name].batches.values() if name in forms else ()) if _is_cell(cell)]
        fitting = [timing for timing in timed if timing.batch <= len(images.indices)]
        if fitting:
            return _fed(FORMS[name], fitting[-1], images, bench, progress)
    return UNASKED


def _is_cell(cell: Measurement[CellJson]) -> TypeGuard[CellJson]:
    return not isinstance(cell, NotMeasured)


def _fed(form: Form, alone: Cell, images: Images, bench: _Bench, progress: Progress) -> FeedJson:
    n = len(images.indices)
    subject, machine = bench.subject, bench.machine
    with (
        progress.stage("feeding the network", 2 * n, "images") as bar,
        open_torch(form, subject.checkpoint.network, subject.preprocess, machine) as opened,
    ):
        first = next(bench.pixels(images, alone.batch))
        for _ in fed(opened.step, machine.device, [first]):
            pass  # kernels are chosen at the first batch
        began = perf_counter()
        for pixels in bench.pixels(images, alone.batch):
            bar.advance(len(pixels))
        decoded = perf_counter()
        for logits in fed(opened.step, machine.device, bench.pixels(images, alone.batch)):
            bar.advance(len(logits))
        ended = perf_counter()
    decoder = n / (decoded - began)
    return FeedJson(
        form=form.name,
        batch=alone.batch,
        n=n,
        decoder_images_per_s=decoder,
        network_images_per_s=alone.images_per_s,
        fed_images_per_s=n / (ended - decoded),
        limit="decoder" if decoder < alone.images_per_s else "network",
    )


def _reason(error: Exception) -> str:
    """One line; memory that was not enough is named as what it is."""
    if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
        return "out of memory"
    if isinstance(error, ExportError):
        return str(error)
    return f"{type(error).__name__}: {first_line(error)}"
