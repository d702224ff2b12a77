"""LiteRT on one, two and four threads, interleaved in one run: clock and processor time; prints a Markdown table.

    python benchmarks/threads.py FILE.tflite... [--threads 1 2 4] [--rounds 100]

Threads beyond the machine's cores wait for each other: what more cores would give does not show there.
"""

import argparse
import os
from pathlib import Path
from time import perf_counter_ns, process_time_ns

import numpy as np

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.records import Artifact, stored_file
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.timing.blocks import turns
from rexnet_export.targets import TARGETS

WARM_UP = 10
MILLISECOND = 1e6  # nanoseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    before = os.getloadavg()[0]
    print("| pixels | file | threads | ms (quartiles) | times as fast as on the first | processor ms | n |")
    print("|--|--|--|--|--|--|--|")
    for path in options.files:
        compare(path, options.threads, options.rounds)
    print(f"\n{processor()}, {os.cpu_count()} cores, load {before:.1f} before and {os.getloadavg()[0]:.1f} after")


def compare(path: Path, threads: list[int], rounds: int) -> None:
    target = TARGETS["tflite"]
    artifact = Artifact(target="tflite", precision="int8", file=stored_file(path))
    size = card_from(target.inspect(artifact).metadata).preprocess.shape[0]
    sessions = {count: target.open(artifact, threads=count) for count in threads}
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    for session in sessions.values():
        for _ in range(WARM_UP):
            session.run(image)
    spent: dict[int, list[tuple[int, int]]] = {count: [] for count in threads}
    for _, order in zip(range(rounds), turns(threads, seed=0), strict=False):
        for count in order:
            start, worked = perf_counter_ns(), process_time_ns()
            sessions[count].run(image)
            spent[count].append((perf_counter_ns() - start, process_time_ns() - worked))
    times = {count: np.array(each) / MILLISECOND for count, each in spent.items()}
    for count, (clock, work) in ((count, each.T) for count, each in times.items()):
        low, middle, high = np.quantile(clock, (0.25, 0.5, 0.75))
        gain = np.median(times[threads[0]][:, 0] / clock)  # round by round
        row = (size, path.name, count, f"{middle:.2f} ({low:.2f}-{high:.2f})", f"{gain:.2f}", f"{np.median(work):.2f}")
        print(f"| {' | '.join(map(str, row))} | {rounds} |")


if __name__ == "__main__":
    main()
