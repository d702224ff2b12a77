"""What the quantizer's rewrites cost in time: the files of `--effort default` against those of `--effort fast`, which
have no groups of channels; prints a Markdown table.

    python benchmarks/rewrites.py [--networks NAME=FILE ...] [--image-size 224] [--rounds 150]

One thread, interleaved; CPU time of the thread, which other work on the machine hardly disturbs. The networks are
calibrated at that size, so that the cuts are those it asks for. Every run exports anew, below --output.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import networks
import numpy as np
from numpy.typing import NDArray

import rexnet_export
from rexnet_export.pipeline.core.files import QPARAMS_FILE
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Artifact, stored_file
from rexnet_export.pipeline.proof.latency import measure, ratio
from rexnet_export.quantization.table.rewrites import ChannelGrouping
from rexnet_export.quantization.table.table_file import load_table
from rexnet_export.targets import TARGETS

FILES = {"tflite": "*-int8.tflite", "ort": "*-int8-x86.ort"}
PLAIN, REWRITTEN = "fast", "default"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks.add_flags(flags, images=16, output="build/rewrites")
    flags.add_argument("--image-size", type=int, default=224)
    flags.add_argument("--rounds", type=int, default=150)
    options = flags.parse_args()
    size = options.image_size
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    print("| network | layers cut, groups | LiteRT: default / fast | ONNX Runtime, x86 preset: default / fast |")
    print("|--|--|--|--|", flush=True)
    for name, checkpoint in options.networks:
        folders = {effort: exported(name, checkpoint, effort, options) for effort in (PLAIN, REWRITTEN)}
        ratios = [measured([*folders.values()], target, image, options.rounds) for target in FILES]
        print(f"| {name} | {cut(folders[REWRITTEN])} | {ratios[0]} | {ratios[1]} |", flush=True)
    print(f"\n{options.rounds} rounds, {size} px, rexnet-export {rexnet_export.__version__}")


def exported(name: str, checkpoint: Path, effort: str, options: argparse.Namespace) -> Path:
    """The folder of an export with this effort."""
    folder: Path = options.output / f"{name}-{options.image_size}-{effort}"
    rexnet_export.export(
        checkpoint,
        targets=list(FILES),
        precision="int8",
        effort=effort,
        image_size=options.image_size,
        calibration_images=options.calibration_images,
        eval_images=options.images,
        output=folder,
    )
    return folder


def measured(folders: Sequence[Path], target: str, image: NDArray[np.uint8], rounds: int) -> str:
    """Ratio of the medians, second folder over first, and the first one's."""
    files = [next(folder.glob(FILES[target])) for folder in folders]
    sessions = {
        str(file): TARGETS[target].open(Artifact(target=target, precision="int8", file=stored_file(file))).run
        for file in files
    }
    times = measure(
        {name: session.run for name, session in sessions.items()},
        image,
        Silent(),
        rounds=rounds,
        clock=time.thread_time_ns,
    )
    plain, rewritten = times.values()
    return f"{ratio(rewritten, plain):.3f} of {plain.p50_ms:.2f} ms"


def cut(folder: Path) -> str:
    """How many layers the table cuts, and into how many groups in all."""
    cuts = [one for one in load_table(folder / QPARAMS_FILE).rewrites if isinstance(one, ChannelGrouping)]
    return f"{len(cuts)}, {sum(len(one.sizes) for one in cuts)}" if cuts else "none"


if __name__ == "__main__":
    main()
