"""Time files side by side, each in a process of its own, in turns; prints a Markdown table.

    python benchmarks/files_in_turns.py --image-size 224 OPENER=FILE OPENER=FILE ... [--rounds 150]

OPENER is a name in `peer_worker.OPENERS`; the first file is what the others are compared with. As in `peers.py`: one
thread each, another random order in each round, processor time of all the process's threads.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import peer_worker
import peers
from peer_table import Timed, ratio

from rexnet_export.pipeline.core.records import NotMeasured
from rexnet_export.pipeline.machine.environment import processor


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("files", nargs="+", type=_named, metavar="OPENER=FILE")
    flags.add_argument("--image-size", type=int, required=True)
    flags.add_argument("--rounds", type=int, default=150)
    options = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = peers.image_of(options.image_size, Path(folder))
        found = peers.in_turns(
            {place: peers.command(*named, image) for place, named in enumerate(options.files)},
            options.rounds,
            Path(folder),
        )
    print(
        "| file | opened by | p10 ms | p50 ms | p90 ms | of the first | layers that multiply |\n|--|--|--|--|--|--|--|"
    )
    for place, (opener, file) in enumerate(options.files):
        timed = found[place]
        if isinstance(timed, NotMeasured):
            print(f"| {file} | {opener} | {timed.reason} |")
            continue
        first = found[0] if isinstance(found[0], Timed) else None
        times = (f"{timed.ms(share):.2f}" for share in (0.1, 0.5, 0.9))
        computes = ", ".join(f"{count} {numbers}" for numbers, count in timed.said["computes"].items())
        print("|", " | ".join((file, opener, *times, ratio(timed, first), computes)), "|")
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{processor()}, {os.cpu_count()} cores, load {load}, n = {options.rounds}")


def _named(text: str) -> tuple[str, str]:
    opener, _, file = text.partition("=")
    if opener not in peer_worker.OPENERS or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not OPENER=FILE with one of {', '.join(peer_worker.OPENERS)}")
    return opener, file


if __name__ == "__main__":
    main()
