r"""What a whole export costs as its work grows: by images, pixels and width, each in a process of its own.

    python benchmarks/growth.py docs/export-cost.csv
    python benchmarks/growth.py docs/export-cost.csv --draw docs/images/export-cost.svg

The first measures (INT8, `--effort fast`, LiteRT and ONNX Runtime) and writes every point; the second draws what was
written. Both print Markdown. Work is the network's own: the products of one image, times all images that the export
calibrates and evaluates on. Widths are networks of random weights. A last column above 1 is growth faster than work's.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby, pairwise
from pathlib import Path

import effort
import torch
from peer_floor import work_of

from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import bundled
from rexnet_export.pipeline.export.inputs import bundled_checkpoint
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

CALIBRATION, FEW = 128, 500
PIXELS, WIDTH = 64, 1.0
SERIES = {"images": (1000, 2000, 4000), "pixels": (64, 128, 224), "width": (0.5, 1.0, 2.0)}
# Every image through every file: of emulated ones an export's own default asks about 2,000 images first.
FLAGS = ("--target", "tflite", "--target", "ort", "--effort", "fast", "--proof", "full")
HEAD = ("grows", "to", "images", "M products an image", "processor s", "peak GiB", "time's growth / work's")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One export: what grows in its series and to what, products of one image, images, and what all of it took."""

    series: str
    value: float
    macs: int
    images: int
    seconds: float
    processor_s: float
    peak_gib: float

    @property
    def work(self) -> int:
        """Products of all images."""
        return self.macs * self.images


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("csv", type=Path)
    flags.add_argument("--draw", type=Path, metavar="SVG")
    options = flags.parse_args()
    if options.draw:
        points = read(options.csv)
        draw(points, options.draw)
    else:
        points = []
        for series, values in SERIES.items():
            for value in values:
                points.append(measured(series, value))
                write(points, options.csv)
        print(f"{processor()}, {CALIBRATION} calibration images\n")
    print(table(points))


def measured(series: str, value: float) -> Point:
    at = {"images": FEW, "pixels": PIXELS, "width": WIDTH, series: value}
    images, pixels = int(at["images"]), int(at["pixels"])
    flags = [*FLAGS, "--image-size", str(pixels), "--eval-images", str(images)]
    flags += ["--calibration-images", str(CALIBRATION)]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = bundled_checkpoint()
        if series == "width":
            checkpoint = Path(folder, "width.safetensors")
            save_random(at["width"], checkpoint)
        network = load_checkpoint(checkpoint).network
        seconds, busy, peak = effort.measured(["--checkpoint", str(checkpoint), *flags])
    return Point(
        series=series,
        value=value,
        macs=work_of(float_graph(network, Preprocess(size=pixels))).macs,
        images=images + CALIBRATION,
        seconds=round(seconds, 1),
        processor_s=round(busy, 1),
        peak_gib=round(peak, 3),
    )


def save_random(width: float, path: Path) -> None:
    """A network of random weights whose BatchNorms have seen random images, so that nothing in it is constant."""
    torch.manual_seed(0)
    network = ReXNet(architecture(width=width, classes=10))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the average of what it sees
    with torch.no_grad():
        for _ in range(4):
            network.train()(torch.randn(16, 3, 1, 1) + torch.randn(16, 3, PIXELS, PIXELS))
    labels, preprocess = bundled("evaluation").class_names, Preprocess(size=PIXELS, crop_ratio=1.0)
    save_checkpoint(path, network.eval(), labels=labels, preprocess=preprocess, metadata={}, half=False)


def table(points: Sequence[Point]) -> str:
    """A row a point; the first of each series has nothing to grow from."""
    rows = [HEAD, ["--"] * len(HEAD), *_rows(points)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _rows(points: Sequence[Point]) -> Iterator[Sequence[str]]:
    for series, group in groupby(points, key=lambda point: point.series):
        of_series = list(group)
        growths = ["", *(f"{growth(one, other):.2f}" for one, other in pairwise(of_series))]
        for point, grown in zip(of_series, growths, strict=True):
            costs = (f"{point.processor_s:.1f}", f"{point.peak_gib:.2f}")
            yield series, f"{point.value:g}", f"{point.images:,}", f"{point.macs / 1e6:.0f}", *costs, grown


def growth(one: Point, other: Point) -> float:
    """How many times as much processor time an image's work took at `other` as at `one`."""
    return other.processor_s / one.processor_s / (other.work / one.work)


def write(points: Sequence[Point], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Point)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, points))


def read(path: Path) -> list[Point]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Point(
                series=row["series"],
                value=float(row["value"]),
                macs=int(row["macs"]),
                images=int(row["images"]),
                **{name: float(row[name]) for name in ("seconds", "processor_s", "peak_gib")},
            )
            for row in csv.DictReader(file)
        ]


def draw(points: Sequence[Point], path: Path) -> None:
    """Processor time and memory over work, a line a series; a thin line from its first point grows as work does."""
    from matplotlib import rc_context  # noqa: PLC0415 - half a second that measuring does not need
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context({"svg.hashsalt": "rexnet-export"}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        time, memory = figure.subplots(1, 2)
        for number, (series, group) in enumerate(groupby(points, key=lambda point: point.series)):
            of_series = list(group)
            work = [point.work / 1e9 for point in of_series]
            spent = [point.processor_s for point in of_series]
            time.plot(work, spent, "o-", label=series, color=f"C{number}")
            time.plot(work, [spent[0] * each / work[0] for each in work], ":", linewidth=1, color=f"C{number}")
            memory.plot(work, [point.peak_gib for point in of_series], "o-", color=f"C{number}")
        time.set(xscale="log", yscale="log", ylabel="processor seconds (dotted: as work grows)")
        memory.set(xscale="log", ylabel="peak memory, GiB", ylim=(0, None))
        for axes in (time, memory):
            axes.set_xlabel("products of one image x images, G")
            axes.grid(alpha=0.3, which="both")
        time.legend(title="what grows")
        figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
