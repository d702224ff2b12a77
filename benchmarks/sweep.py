"""How long a sweep takes beside the same exports one after another: `python benchmarks/sweep.py [--sizes 32 48]`.

Two small networks x sizes x INT8 and float32 x Core ML, TFLite and ONNX Runtime, few images, `--effort fast`. A
separate export is a process of its own, as a script would start it; it times its files, as the sweep does in the end.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from rexnet_export.apps.export.sweep.plan import read_plan
from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.machine.environment import processor, usable_cores
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

PRECISIONS, TARGETS = ("int8", "fp32"), ("coreml", "tflite", "ort")
IMAGES = {"calibration-images": 16, "eval-images": 48}


def network(path: Path, seed: int) -> Path:
    """A small network with the bundled labels; random, but its BatchNorm has seen images."""
    torch.manual_seed(seed)
    made, source = ReXNet(architecture(width=0.5, classes=10)), bundled("calibration")
    pixels = np.stack([np.asarray(source.load(index).resize((32, 32))) for index in range(64)])
    with torch.no_grad():
        for _ in range(20):
            made(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5)
    preprocess = Preprocess(size=32, crop_ratio=1.0, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    save_checkpoint(path, made.eval(), labels=source.class_names, preprocess=preprocess, metadata={}, half=False)
    return path


def spent(commands: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Seconds on the wall and of processors for commands one after another; a failed one ends it."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter() - start
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--sizes", type=int, nargs="+", default=[32, 48])
    sizes = flags.parse_args().sizes
    program = [sys.executable, "-P", "-m", "rexnet_export.apps.export.command"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoints = [str(network(folder / f"net{seed}.safetensors", seed)) for seed in range(2)]
        plan = folder / "sweep.toml"
        options = "".join(f"{key} = {value}\n" for key, value in IMAGES.items())
        axes = {"checkpoints": checkpoints, "image-sizes": sizes, "precisions": PRECISIONS, "targets": TARGETS}
        lines = "".join(f"{key} = {list(values)}\n" for key, values in axes.items())
        plan.write_text(f"{lines}efforts = ['fast']\n[options]\n{options}", encoding="utf-8")
        trials = read_plan(plan, folder / "swept")
        sweep = spent([[*program, "sweep", str(plan), "--output", str(folder / "swept"), "--quiet"]])
        alone = spent(
            [
                [
                    *(*program, "--checkpoint", str(trial.options.checkpoint), "--target", trial.target, "--quiet"),
                    *("--image-size", str(trial.options.image_size), "--effort", "fast"),
                    *(f"--{trial.options.precision}", "--output", str(folder / "alone" / trial.name)),
                    *(word for key, value in IMAGES.items() for word in (f"--{key}", str(value))),
                ]
                for trial in trials
            ]
        )
    print(f"{processor()}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f}; {len(trials)} trials")
    print(f"{'':10}{'wall s':>9}{'CPU s':>9}")
    for label, (wall, cpu) in (("separate", alone), ("sweep", sweep)):
        print(f"{label:10}{wall:9.0f}{cpu:9.0f}")
    print(f"{'ratio':10}{sweep[0] / alone[0]:9.2f}{sweep[1] / alone[1]:9.2f}")


if __name__ == "__main__":
    main()
