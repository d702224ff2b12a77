"""What pieces of the search take, in seconds by the clock and of all cores; prints Markdown, with digests of tables.

    python benchmarks/search.py [--networks NAME=FILE ...] [--calibration-images 512] [--rounds 3]

To compare two versions, run it in both by turns; the same digest says that both chose the same.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time

import ablation
import networks
import onnx
from networks import Network

from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.quantization.search.bias_correction import choose_correction
from rexnet_export.quantization.search.choose_groups import choose_groups
from rexnet_export.quantization.search.choose_ranges import candidates
from rexnet_export.quantization.search.search import corrected, equalized, grouped, ranges_chosen, search
from rexnet_export.quantization.search.sensitivity import sensitivities


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks.add_flags(flags, images=16, output="build/search")
    flags.add_argument("--rounds", type=int, default=3)
    options = flags.parse_args()
    print("| network | piece | seconds | processor seconds, median (least to most) |\n|--|--|--|--|", flush=True)
    for network in networks.prepared(options):
        digest, pieces = of(network)
        for name, piece in pieces.items():
            print(f"| {network.name} {digest} | {name} | {cell(piece, options.rounds)} |", flush=True)
    print(f"\nn = {options.rounds}, {options.calibration_images} calibration images, {processor()}")


def of(network: Network) -> tuple[str, dict[str, Callable[[], object]]]:
    """The digest of what a search finds, and its pieces, each on what the steps before it left."""
    model = onnx.load(network.float_onnx.path)
    evidence = ablation.gathered(model, network)
    judge = evidence.judge
    even = search(model, evidence, [equalized], lambda _: None)
    cut = grouped(even, evidence)
    ranged = ranges_chosen(cut, evidence)
    done = corrected(ranged, evidence)
    before, after = (evidence.slopes(draft.model, draft.statistics) for draft in (even, cut))
    pieces: dict[str, Callable[[], object]] = {
        "cuts": lambda: choose_groups(even.model, even.statistics, before, even.table, judge),
        "ranges": lambda: candidates(cut.statistics, after),
        "biases": lambda: choose_correction(ranged.model, ranged.table, evidence.sample, judge),
        "what INT8 hurts": lambda: sensitivities(done.model, done.table, judge, lambda _: None),
    }
    return hashlib.sha256(repr(done.table).encode()).hexdigest()[:8], pieces


def cell(piece: Callable[[], object], rounds: int) -> str:
    """Seconds of a piece by the clock, and of all cores."""
    clock, busy = [], []
    for _ in range(rounds):
        start, worked = perf_counter(), process_time()
        piece()
        clock.append(perf_counter() - start)
        busy.append(process_time() - worked)
    return f"{median(clock):.1f} | {median(busy):.1f} ({min(busy):.1f} to {max(busy):.1f})"


if __name__ == "__main__":
    main()
