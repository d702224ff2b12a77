"""Files compiled for NPUs: operators on them, partitions, sizes and seconds; writes the last part of docs/npu.md.

    python benchmarks/npu.py [--chips SM8550,SM8650,SM8750,SA8295] [--environment DIR] [--write docs/npu.md] [FILE ...]

FILE is an INT8 .tflite of `rexnet-export`. Without one the bundled network is exported, and rexnet_100, rexnet_130 and
rexnet_lite_100 at 224 px with random weights, whose operators are those of trained ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rexnet_export.apps.export.npu.npu_json import NpuJson
from rexnet_export.apps.shared.text import shown
from rexnet_export.pipeline.core.records import NotMeasured, Preprocess
from rexnet_export.pipeline.data.sources import batches, bundled
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.model.architecture import Variant, architecture

BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->"
RANDOM: dict[str, tuple[Variant, float]] = {
    "rexnet_100": ("v1", 1.0),
    "rexnet_130": ("v1", 1.3),
    "rexnet_lite_100": ("lite", 1.0),
}
FAST = ("--effort", "fast", "--target", "tflite", "--int8", "--eval-images", "16")
COMMAND = (sys.executable, "-P", "-m", "rexnet_export.apps.export.command")
SIZE, ROUNDS, MB = 224, 20, 1e6


def main() -> None:
    """Export what is not given, compile, and print or write the table."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("files", nargs="*", type=Path, metavar="FILE")
    p.add_argument("--chips", default="SM8550,SM8650,SM8750,SA8295")
    p.add_argument("--environment", type=Path, metavar="DIR")
    p.add_argument("--write", type=Path, metavar="PAGE")
    options = p.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = options.files or list(exported(folder))
        records = [compiled(file, options, folder / f"out-{number}") for number, file in enumerate(files)]
    table = "\n".join(lines(records))
    if options.write is None:
        print(table)
        return
    head, _, rest = options.write.read_text().partition(BEGIN)
    options.write.write_text(f"{head}{BEGIN}{table}\n{END}{rest.partition(END)[2]}")


def exported(folder: Path) -> Iterator[Path]:
    """INT8 files of the bundled network and of random ones at 224 px."""
    import torch  # noqa: PLC0415 - which files that are given do not need

    from rexnet_export.pipeline.checkpoint.load import save_checkpoint  # noqa: PLC0415 - the same
    from rexnet_export.pipeline.model.rexnet import ReXNet  # noqa: PLC0415 - the same

    yield export(folder / "bundled")
    source = bundled("calibration")
    images = next(batches(source, Preprocess(size=64, crop_ratio=1.0), range(32), 32))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5
    for name, (variant, width) in RANDOM.items():
        torch.manual_seed(0)
        checkpoint = folder / f"{name}.safetensors"
        network = ReXNet(architecture(variant, width, classes=len(source.class_names or ())))
        with torch.no_grad():  # BatchNorm sees images, or activations fade to nothing
            for _ in range(ROUNDS):
                network(pixels)
        save_checkpoint(
            checkpoint,
            network.eval(),
            labels=source.class_names,
            preprocess=Preprocess(size=SIZE, crop_ratio=1.0),
            metadata={},
            half=False,
        )
        yield export(folder / name, "--checkpoint", str(checkpoint), "--calibration-images", "16")


def export(output: Path, *flags: str) -> Path:
    """One INT8 file. Random weights may lose what accuracy they have: the export's verdict is not asked for."""
    subprocess.run([*COMMAND, *FAST, *flags, "--output", str(output)], check=True, stdout=sys.stderr)
    (file,) = output.glob("*-int8.tflite")
    return file


def compiled(file: Path, options: argparse.Namespace, output: Path) -> NpuJson:
    """What the command says of a file."""
    place = ["--environment", str(options.environment)] if options.environment else []
    flags = [str(file), "--chips", options.chips, "--output", str(output), *place]
    subprocess.run([*COMMAND, "npu", *flags], check=False, stdout=sys.stderr)
    return NpuJson.parse((output / "npu.json").read_bytes())


def lines(records: Sequence[NpuJson]) -> Iterator[str]:
    """The table, and under it where it comes from."""
    yield "| file | MB | chip | operators on the NPU | partitions | scales | weights, biases | compiled, MB | seconds |"
    yield "|---|---:|---|---:|---:|---:|---:|---:|---:|"
    for record in records:
        for one in record.chips:
            same = one.parameters
            scales = shown(same, lambda same: f"{same.activations + same.weights}")
            integers = shown(same if isinstance(same, NotMeasured) else same.integers, str)
            yield (
                f"| `{record.source.file}` | {record.source.bytes / MB:.2f} | {one.vendor} {one.chip} | "
                f"{one.operators_on_npu} of {one.operators} | {one.partitions} | {scales} | {integers} | "
                f"{one.bytes / MB:.2f} | {one.seconds:.1f} |"
            )
        for chip, reason in record.not_compiled.items():
            yield f"| `{record.source.file}` | {record.source.bytes / MB:.2f} | {chip} | {reason} | | | | | |"
    packages = ", ".join(f"{name} {version}" for name, version in records[0].packages.items())
    sdk = ", ".join(sorted({one.sdk for record in records for one in record.chips}))
    yield ""
    yield f"{packages}, QNN {sdk}; one run each on {processor()} beside other work. Nothing was run on a phone."


if __name__ == "__main__":
    main()
