"""A sweep beside the same exports one after another, and killed and resumed, here and on two nodes of Ray.

    python benchmarks/sweep.py [--sizes 32 48] [--no-ray]

Two small networks x sizes x INT8 and float32 x Core ML, TFLite and ONNX Runtime, few images, `--effort fast`. A
separate export is a process of its own, as a script would start it; it times its files, as the sweep does in the end.
One half of them runs before the sweep and one after it, so that both meet the same machine. Then the same sweep is
killed (SIGKILL) after a third of its trials and resumed, and runs on a Ray of two nodes, one of which is killed after a
third; the tables (`sweep.json`, `sweep.csv`) of all three are compared byte by byte, and exit code 1 says they differ.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from rexnet_export.apps.export.sweep.plan import Trial, read_plan
from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.machine.environment import processor, usable_cores
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

PROGRAM = (sys.executable, "-P", "-m", "rexnet_export.apps.export.command")
PRECISIONS, TARGETS = ("int8", "fp32"), ("coreml", "tflite", "ort")
IMAGES = {"calibration-images": 16, "eval-images": 48}
TABLES = ("sweep.json", "sweep.csv")


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


def written(plan: Path, checkpoints: Sequence[str], sizes: Sequence[int]) -> Path:
    """The sweep's file."""
    options = "".join(f"{key} = {value}\n" for key, value in IMAGES.items())
    axes = {"checkpoints": checkpoints, "image-sizes": sizes, "precisions": PRECISIONS, "targets": TARGETS}
    lines = "".join(f"{key} = {list(values)}\n" for key, values in axes.items())
    plan.write_text(f"{lines}efforts = ['fast']\n[options]\n{options}", encoding="utf-8")
    return plan


def spent(commands: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Seconds on the wall and of processors for commands one after another; a failed one ends it."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter() - start
    return np.array([wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime])


def sweep(plan: Path, output: Path, *flags: str) -> list[str]:
    """The command."""
    return [*PROGRAM, "sweep", str(plan), "--output", str(output), "--quiet", *flags]


def alone(trial: Trial, folder: Path) -> list[str]:
    """The same export by a command of its own."""
    options = trial.options
    return [
        *(*PROGRAM, "--checkpoint", str(options.checkpoint), "--target", trial.target, "--quiet"),
        *("--image-size", str(options.image_size), "--effort", "fast"),
        *(f"--{options.precision}", "--output", str(folder / trial.name)),
        *(word for key, value in IMAGES.items() for word in (f"--{key}", str(value))),
    ]


def when_done(
    output: Path, trials: int, command: Sequence[str], act: Callable[[subprocess.Popen[bytes]], object]
) -> int:
    """Start a sweep, act when so many of its trials are done, and wait for it; its exit code."""
    journal = output / "journal.jsonl"
    with subprocess.Popen(command) as process:
        while process.poll() is None and not (journal.exists() and len(journal.read_bytes().splitlines()) > trials):
            time.sleep(0.05)
        act(process)
        return process.wait()


def same_tables(one: Path, other: Path, how: str) -> bool:
    """Whether both sweeps have the same tables; says so."""
    same = all((one / name).read_bytes() == (other / name).read_bytes() for name in TABLES)
    print(f"{how}: tables {'are the same, byte by byte' if same else 'DIFFER'}", flush=True)
    return same


def on_ray(plan: Path, output: Path, trials: int) -> None:
    """The sweep on two nodes of a core each; the second is killed when so many trials are done."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra, which takes seconds

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1, include_dashboard=False)
        command = sweep(plan, output, "--ray", cluster.address)
        code = when_done(output, trials, command, lambda _: cluster.remove_node(second, allow_graceful=False))
        assert code == 0, f"exit code {code}"
    finally:
        cluster.shutdown()


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--sizes", type=int, nargs="+", default=[32, 48])
    flags.add_argument("--no-ray", action="store_true")
    options = flags.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoints = [str(network(folder / f"net{seed}.safetensors", seed)) for seed in range(2)]
        plan = written(folder / "sweep.toml", checkpoints, options.sizes)
        trials = read_plan(plan, folder / "swept")
        exports = [alone(trial, folder / "alone") for trial in trials]
        separate = spent(exports[::2])
        swept = spent([sweep(plan, folder / "swept")])
        separate += spent(exports[1::2])
        print(f"{processor()}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f}; {len(trials)} trials")
        print(f"{'':10}{'wall s':>9}{'CPU s':>9}")
        for label, (wall, cpu) in (("separate", separate), ("sweep", swept)):
            print(f"{label:10}{wall:9.0f}{cpu:9.0f}")
        print("{:10}{:9.2f}{:9.2f}".format("ratio", *(swept / separate)), flush=True)
        third = len(trials) // 3
        killed = folder / "killed"
        code = when_done(killed, third, sweep(plan, killed), lambda process: process.kill())
        resumed = spent([sweep(plan, killed, "--resume")])
        print(f"killed after {third} trials (exit code {code}), resumed in {resumed[0]:.0f} s")
        same = same_tables(folder / "swept", killed, "killed and resumed")
        if not options.no_ray:
            on_ray(plan, folder / "away", third)
            same &= same_tables(folder / "swept", folder / "away", f"two nodes of Ray, one killed after {third} trials")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
