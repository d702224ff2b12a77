"""Clocks, power and heat of a card, read through NVML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from rexnet_export.pipeline.core.errors import first_line
from rexnet_export.pipeline.core.extras import EXTRAS
from rexnet_export.pipeline.core.records import Count, Measurement, NotMeasured, NotNegative

MODULE = "pynvml"


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """What the driver says of a card at one moment; `slowed_by` is its mask of reasons for lower clocks, 0 for none."""

    sm_mhz: Count
    memory_mhz: Count
    power_w: NotNegative
    temperature_c: int
    slowed_by: Count


type ReadClocks = Callable[[], Measurement[Clocks]]


def clock_reader(device: torch.device) -> ReadClocks:
    """What reads the clocks of a device; where they cannot be had, it gives the reason each time."""
    if device.type != "cuda":
        return _always("a CPU; NVML speaks of NVIDIA's cards")
    if find_spec(MODULE) is None:
        (extra,) = (extra for extra in EXTRAS if MODULE in extra.modules)
        return _always(f"NVML's Python package is not installed; run: {extra.command}")
    return nvml_reader(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


def nvml_reader(uuid: str) -> ReadClocks:
    """The reader of the card with this identifier, which is the same however many cards a process may see."""
    import pynvml  # noqa: PLC0415 - an extra

    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError as error:
        return _always(f"NVML: {first_line(error)}")

    def read() -> Measurement[Clocks]:
        try:
            return Clocks(
                sm_mhz=pynvml.nvmlDeviceGetClockInfo(card, pynvml.NVML_CLOCK_SM),
                memory_mhz=pynvml.nvmlDeviceGetClockInfo(card, pynvml.NVML_CLOCK_MEM),
                power_w=pynvml.nvmlDeviceGetPowerUsage(card) / 1000,
                temperature_c=pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU),
                slowed_by=pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(card)
                & ~pynvml.nvmlClocksThrottleReasonGpuIdle,
            )
        except pynvml.NVMLError as error:
            return NotMeasured(reason=f"NVML: {first_line(error)}")

    return read


def _always(reason: str) -> ReadClocks:
    found = NotMeasured(reason=reason)
    return lambda: found
