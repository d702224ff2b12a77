"""The phases of a run that execute the model: parity, interleaved latency, accuracy, sustained load."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.runner.array_file import read_array
from rexnet_export.apps.bench.runner.machine import environment
from rexnet_export.apps.bench.runner.phase import note
from rexnet_export.apps.bench.runner.runtimes import Session
from rexnet_export.pipeline.timing.blocks import kernel_times, steady, timed, turns
from rexnet_export.pipeline.timing.summary import median, quantile

KERNEL_REPEATS = 15
KEPT_SHARE = 0.75
SETTLED_C = 0.5


class Block(NamedTuple):
    """Durations in ns of one arm's part of a pair."""

    pair: int
    arm: str
    order: int
    started_s: float
    temperature_c: float | None
    durations: list[int]


class Latency(NamedTuple):
    """All blocks, and for each pair the reference kernel's ns before and after."""

    blocks: list[Block]
    kernels: list[tuple[int, int]]
    warmup_s: float

    def kept_pairs(self) -> list[int]:
        """Pairs during which the reference kernel kept its speed."""
        return [pair for pair, (before, after) in enumerate(self.kernels) if steady(before, after)]

    def durations(self, arm: str) -> list[int]:
        """Every sample of an arm, in the order taken."""
        return [duration for block in self.blocks if block.arm == arm for duration in block.durations]

    def ratios(self) -> list[float]:
        """Median of the candidate over that of the baseline, per kept pair."""
        medians = {(block.pair, block.arm): median(block.durations) for block in self.blocks}
        return [medians[pair, "cand"] / medians[pair, "base"] for pair in self.kept_pairs()]


class Images:
    """The bundle's images, one batch file in memory at a time."""

    def __init__(self, folder: Path, files: list[str], count: int) -> None:
        self._paths = [folder / name for name in files]
        self.count = count

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        left = self.count
        for path in self._paths:
            batch = read_array(path)
            for image in batch[:left]:
                yield np.ascontiguousarray(image[None])
            left -= min(left, len(batch))
            if not left:
                return

    def first(self) -> NDArray[np.uint8]:
        """The image that latency is measured on."""
        return next(iter(self))


def reference_kernel() -> int:
    """ns of a fixed small piece of work, the fastest of a few: what it takes on an undisturbed device."""
    return min(kernel_times(KERNEL_REPEATS))


def idle_gate(limits: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> list[str]:
    """Wait until load and temperature are low or stable, and say what for; the reasons left when patience ended."""
    deadline = time.monotonic() + float(limits["max_wait_s"])
    last: list[float] | None = None
    told = False
    while True:
        now = environment()
        most = float(limits["load_per_cpu"]) * (os.cpu_count() or 1)
        reasons = {}
        if now["loadavg_1m"] is not None and now["loadavg_1m"] > most:
            reasons["load_high"] = f"a load of {most:.1f} (now {now['loadavg_1m']:.1f}, the mean of a minute)"
        hot = [t for t in now["temps_c"] if t > float(limits["temp_c"])]
        if hot and not _settled(last, now["temps_c"]):
            reasons["too_hot"] = f"{float(limits['temp_c']):g} C or a steady temperature (now {max(hot):.1f} C)"
        last = now["temps_c"]
        left = deadline - time.monotonic()
        if not reasons or left <= 0:
            return list(reasons)
        if not told:
            note(f"waiting for {' and '.join(reasons.values())}, for at most {left:.0f} s")
            told = True
        sleep(min(float(limits["poll_s"]), left))


def _settled(last: list[float] | None, now: list[float]) -> bool:
    return last is not None and len(last) == len(now) and all(abs(a - b) < SETTLED_C for a, b in zip(last, now))


def measure_latency(arms: dict[str, Session], image: NDArray[np.uint8], plan: dict[str, Any]) -> Latency:
    """Pairs of blocks, the arms of each in seeded random order; stops after a pair when the time budget is spent."""
    blocks: list[Block] = []
    kernels = []
    began = time.monotonic()
    for session in arms.values():
        for _ in range(int(plan["warmup_runs"])):
            session.run(image)
    warmup_s = time.monotonic() - began
    for pair, names in zip(range(int(plan["pairs"])), turns(list(arms), int(plan["seed"]))):
        before = reference_kernel()
        for order, arm in enumerate(names):
            blocks.append(_block(arms[arm], image, plan, pair, arm, order, began))
        kernels.append((before, reference_kernel()))
        if time.monotonic() - began > float(plan["budget_s"]):
            break
    return Latency(blocks, kernels, warmup_s)


def _block(
    session: Session, image: NDArray[np.uint8], plan: dict[str, Any], pair: int, arm: str, order: int, began: float
) -> Block:
    temperatures = environment()["temps_c"]
    started = time.monotonic() - began
    durations = timed(lambda: session.run(image), int(plan["block_runs"]), int(plan["block_warmup"]))
    return Block(pair, arm, order, started, max(temperatures) if temperatures else None, durations)


def block_record(block: Block) -> dict[str, Any]:
    """A block as the result lists it."""
    return {
        "pair": block.pair,
        "arm": block.arm,
        "order": block.order,
        "n": len(block.durations),
        "median_ns": median(block.durations),
        "p90_ns": quantile(block.durations, 0.9),
        "mean_ns": round(sum(block.durations) / len(block.durations)),
        "temp_c": block.temperature_c,
        "t_start_s": round(block.started_s, 3),
    }


def logits_of(session: Session, images: Images) -> NDArray[np.float32]:
    """float32 [n, classes] of every image, one at a time, through the code that is timed."""
    return np.stack([np.array(session.run(image), np.float32, copy=True) for image in images])


def parity(logits: NDArray[np.float32], golden: NDArray[np.float32], tolerance: dict[str, Any]) -> dict[str, Any]:
    """Distances to the golden logits of the same images, in their unit and in quantization steps."""
    golden = golden[: len(logits)]
    if logits.shape != golden.shape or not np.isfinite(logits).all():
        return {
            "max_abs": None,
            "mean_abs": None,
            "max_quant_steps": None,
            "cosine_min": None,
            "top1_agreement": 0.0,
            "n": len(logits),
            "verdict": "fail",
        }
    apart = np.abs(logits.astype(np.float64) - golden)
    norms = np.linalg.norm(logits, axis=1) * np.linalg.norm(golden, axis=1)
    cosines = (logits.astype(np.float64) * golden).sum(1) / np.maximum(norms, 1e-30)
    near = apart.max() <= tolerance["largest"] and apart.mean() <= tolerance["mean"]
    step = tolerance["step"]
    return {
        "max_abs": float(apart.max()),
        "mean_abs": float(apart.mean()),
        "max_quant_steps": float(apart.max() / step) if step else None,
        "cosine_min": float(cosines.min()),
        "top1_agreement": float((logits.argmax(1) == golden.argmax(1)).mean()),
        "n": len(logits),
        "verdict": "pass" if near else "fail",
    }


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float | int]:
    """Shares of images whose label is first, or among the first five."""
    labels = labels[: len(logits)]
    best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    return {
        "n": len(logits),
        "top1": float((best[:, 0] == labels).mean()),
        "top5": float((best == labels[:, None]).any(1).mean()),
    }


def sustained(session: Session, image: NDArray[np.uint8], minutes: float) -> list[dict[str, Any]]:
    """Run without a pause and summarize every minute begun."""
    began = time.monotonic()
    found: list[dict[str, Any]] = []
    for minute in range(math.ceil(minutes)):
        end = began + 60 * min(minute + 1.0, minutes)
        durations: list[int] = []
        while time.monotonic() < end or not durations:
            durations += timed(lambda: session.run(image), 1)
        temperatures = environment()["temps_c"]
        hottest = max(temperatures) if temperatures else None
        found.append({"minute": minute, "n": len(durations), "median_ns": median(durations), "temp_c": hottest})
    return found
