"""Our INT8 files beside what else people would ship, and what physics allows; prints Markdown tables, writes JSON.

    python benchmarks/peers.py [--image-size 64 224] [--rounds 150] [--rivals PYTHON]

The bundled network in every runtime, quantized by others, and compiled by torch; MobileNetV2 and EfficientNet-Lite0,
random weights, quantized by others. All take the same uint8 image. Each file is open in a process of its own, with one
thread; in each round all take turns in another random order, so ratios hold on a busy machine. Processor time of
all the process's threads. The products and bytes a second that the processor manages at most take turns too.

Files are made once, below --output: delete it when the code has changed. `--rounds 0` only makes them. Other
projects' quantizers run in an environment of their own (see rivals-requirements.txt). At sizes that a network was not
trained for only the time is of interest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import peer_files
import peer_floor
import peer_table
import peer_worker
from peer_files import Peer
from peer_table import Timed

import rexnet_export
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.timing.blocks import turns

WARM_UP = 5
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}  # no thread spins


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--image-size", type=int, nargs="+", default=[64, 224])
    flags.add_argument("--rounds", type=int, default=150)
    flags.add_argument("--effort", default="default", help="of the exports of our INT8 files")
    flags.add_argument("--rivals", type=Path, default=Path("build/rivals/bin/python"), metavar="PYTHON")
    flags.add_argument("--output", type=Path, default=Path("build/peers"), metavar="DIR")
    options = flags.parse_args()
    for size in options.image_size:
        folder = options.output / str(size)
        peers, graphs = peer_files.made(size, folder, options.effort, options.rivals)
        if options.rounds:
            work = {name: peer_floor.work_of(graph) for name, graph in graphs.items()}
            timed, limits = compared(peers, size, folder, options.rounds)
            peer_table.save(peers, timed, limits, folder / "peers.json")
            print(f"{peer_table.page(size, peers, timed, limits, work)}\n", flush=True)
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{processor()}, {os.cpu_count()} cores, load {load}, rexnet_export {rexnet_export.__version__}")


def compared(
    peers: Sequence[Peer], size: int, folder: Path, rounds: int
) -> tuple[list[Measurement[Timed]], Mapping[str, Measurement[Timed]]]:
    """What every peer took, in their order, and by its name what each limit of the processor did; all in turns."""
    image = image_of(size, folder)
    program = peer_floor.compiled(folder)
    commands: dict[str | int, Measurement[list[str]]] = {}
    for place, peer in enumerate(peers):
        file = peer.file
        commands[place] = file if isinstance(file, NotMeasured) else command(peer.opener, str(file), image)
    for name, words in peer_floor.KINDS.items():
        commands[name] = [str(program), *words]
    found = in_turns(commands, rounds, folder)
    return [found[place] for place in range(len(peers))], {name: found[name] for name in peer_floor.KINDS}


def image_of(size: int, folder: Path) -> Path:
    """A random uint8 image [1, S, S, 3] in a folder."""
    path = folder / "image.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8))
    return path


def command(opener: str, file: str, image: Path) -> list[str]:
    """What starts a process that has a file open in a runtime."""
    return [sys.executable, peer_worker.__file__, opener, file, str(image)]


def in_turns[Name: (str | int)](
    commands: Mapping[Name, Measurement[list[str]]], rounds: int, logs: Path
) -> dict[Name, Measurement[Timed]]:
    """Start all, and let each run once a round; one that fails says why, in its own row."""
    found: dict[Name, Measurement[Timed]] = {}
    with ExitStack() as stack:
        started = {}
        for name, command in commands.items():
            if isinstance(command, NotMeasured):
                found[name] = command
            else:
                started[name] = stack.enter_context(Worker(command, logs / f"worker-{name}.log"))
        said = {name: worker.said() for name, worker in started.items()}
        running = {name: worker for name, worker in started.items() if said[name] is not None}
        spent: dict[Name, list[int]] = {name: [] for name in running}
        for worker in running.values():
            for _ in range(WARM_UP):
                worker.turn()
        for _, order in zip(range(rounds), turns(list(running), seed=0), strict=False):
            for name in order:
                spent[name].append(running[name].turn())
        for name, worker in started.items():
            known = said[name]
            found[name] = NotMeasured(reason=worker.reason()) if known is None else Timed(known, spent[name])
    return found


class Worker:
    """A process that answers each line with nanoseconds, after a first line of JSON."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=os.environ | ENVIRONMENT
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin and self._process.stdin.close()
        self._process.wait()

    def said(self) -> dict[str, Any] | None:
        """Its first line; None where it ended instead."""
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def turn(self) -> int:
        """Nanoseconds of one run; SystemExit where it ends instead, as the rounds before are then of fewer files."""
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline() or sys.exit(f"{self._process.args}: {self.reason()}"))

    def reason(self) -> str:
        """The last that it said of its end."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with {self._process.wait()}"


if __name__ == "__main__":
    main()
