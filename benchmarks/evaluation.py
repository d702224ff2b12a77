"""Many evaluation images in a sweep: the same answers wherever they are run, the rate, and the memory.

    python benchmarks/evaluation.py [--images 2000] [--jobs 1 2 3] [--ray]
    python benchmarks/evaluation.py --one-trial [--images 4096] [--workers 1 2]

Photos of noise, 256 x 256 JPEG in one folder for each class, and a small network of 224 px in float32 for ONNX Runtime,
TFLite and torch: three trials, each of which runs all images. Every number of `--jobs` (with `--ray` a local Ray, too)
is a sweep of its own; the digest is of every logit of every trial (`predictions.npz`). Memory is the peak of the
largest process so far: the first sweep has a quarter of the images.

With `--one-trial` there is the one for ONNX Runtime alone (four networks), with every number of `--workers`: processes
that share its images, then nodes of Ray. Nodes are of this machine too, but each has one core that is its own.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image

from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.machine.environment import processor, usable_cores
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

CLASSES = tuple(f"class {index}" for index in range(10))
TARGETS = ("ort", "tflite", "gpu")
SIZE, STORED = 224, 256  # pixels
NETWORK, PHOTOS = "net.safetensors", "photos"


def network(path: Path) -> Path:
    """A network of half the width; random, but its BatchNorm has seen noise."""
    torch.manual_seed(0)
    made = ReXNet(architecture(width=0.5, classes=len(CLASSES)))
    with torch.no_grad():
        for _ in range(20):
            made(torch.randn(16, 3, 64, 64))
    save_checkpoint(path, made.eval(), labels=CLASSES, preprocess=Preprocess(size=SIZE), metadata={}, half=False)
    return path


def photos(folder: Path, count: int) -> Path:
    """So many images, a sub-folder for each class: noise of 16 x 16 enlarged, which compresses as photos do."""
    chance = np.random.default_rng(0)
    for number in range(count):
        place = folder / CLASSES[number % len(CLASSES)]
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(chance.integers(0, 256, (16, 16, 3), np.uint8))
        coarse.resize((STORED, STORED), Image.Resampling.BICUBIC).save(place / f"{number}.jpg", quality=85)
    return folder


def swept(plan: Path, output: Path, *flags: str) -> tuple[float, str]:
    """Seconds of a sweep, and the digest of all that its trials answered."""
    command = [sys.executable, "-P", "-m", "rexnet_export.apps.export.command", "sweep", str(plan)]
    start = perf_counter()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}  # no file is timed then
    subprocess.run([*command, "--output", str(output), "--quiet", *flags], check=True, env=environment)
    wall, digest = perf_counter() - start, hashlib.sha256()
    for path in sorted(output.glob("trials/*/predictions.npz")):
        with np.load(path) as arrays:
            for name in sorted(arrays):
                digest.update(f"{path.parent.name} {name} ".encode() + arrays[name].tobytes())
    return wall, digest.hexdigest()[:16]


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """What is started here runs on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def ray_of(cores: Sequence[int]) -> Iterator[str]:
    """The address of a Ray with a node on each of these cores."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    os.environ.setdefault("RAY_worker_niceness", "0")  # as important as a process that is no worker
    cluster = Cluster()
    try:
        for core in cores:
            with on_cores([core]):
                cluster.add_node(num_cpus=1, include_dashboard=False)
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def one_trial(folder: Path, images: int, counts: Sequence[int]) -> int:
    """One trial, its images run by so many processes, then by so many nodes; 1 where they do not answer alike."""
    plan, digests = planned(folder, images, ("ort",)), set()
    cores = sorted(os.sched_getaffinity(0))
    print(f"{processor()}, {len(cores)} cores, load {os.getloadavg()[0]:.1f}; 1 trial of {images:,} images")
    print(f"{'of a core each':18}{'s':>8}{'images/s':>10}  answers")
    for what, count in product(("processes", "nodes"), counts):
        with ray_of(cores[:count]) if what == "nodes" else nullcontext("") as address, on_cores(cores[:count]):
            flags = ("--ray", address) if address else ("--jobs", str(count))
            wall, digest = swept(plan, folder / f"{count} {what}", *flags)
        digests.add(digest)
        print(f"{f'{count} {what}':18}{wall:8.0f}{images / wall:10.0f}  {digest}", flush=True)
    return len(digests) - 1


def trials(folder: Path, images: int, ways: Mapping[str, Sequence[str]]) -> int:
    """Three trials in every way; 1 where they do not answer alike."""
    print(f"{processor()}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f}; {len(TARGETS)} trials")
    print(f"{'':14}{'images':>8}{'s':>8}{'images/s':>10}{'peak MB':>9}  answers")
    digests = set()
    for way, few in [(next(iter(ways)), images // 4), *((way, images) for way in ways)]:
        wall, digest = swept(planned(folder, few, TARGETS), folder / f"{way} {few}", *ways[way])
        digests |= {digest} if few == images else set()
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        rate = few * len(TARGETS) / wall
        print(f"{way:14}{few:8,}{wall:8.0f}{rate:10.0f}{peak:9.0f}  {digest}", flush=True)
    return len(digests) - 1


def planned(folder: Path, images: int, targets: Sequence[str]) -> Path:
    """What to sweep over, of the network and the photos that lie in the folder."""
    plan = folder / "sweep.toml"
    plan.write_text(
        f'checkpoints = ["{folder / NETWORK}"]\nprecisions = ["fp32"]\ntargets = {list(targets)}\n'
        f'[options]\neval-data = "{folder / PHOTOS}"\neval-images = {images}\n',
        encoding="utf-8",
    )
    return plan


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--images", type=int, default=2000)
    flags.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 3])
    flags.add_argument("--ray", action="store_true")
    flags.add_argument("--one-trial", action="store_true")
    flags.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = flags.parse_args()
    ways: dict[str, Sequence[str]] = {f"{jobs} processes": ("--jobs", str(jobs)) for jobs in options.jobs}
    ways |= {"local Ray": ("--ray", "local")} if options.ray else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network(folder / NETWORK)
        photos(folder / PHOTOS, options.images)
        if options.one_trial:
            return one_trial(folder, options.images, options.workers)
        return trials(folder, options.images, ways)


if __name__ == "__main__":
    sys.exit(main())
