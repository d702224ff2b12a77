"""How far the bundled network's backbone artifacts are from float, output by output; prints a Markdown table.

python benchmarks/backbone.py [--images 1000] [--effort default]
"""

import argparse
import tempfile
from pathlib import Path

import rexnet_export
from rexnet_export.apps.export.backbone_command import levels
from rexnet_export.apps.export.summary_table import files
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import PRECISIONS, Precision
from rexnet_export.pipeline.export.export import export_backbone
from rexnet_export.pipeline.export.options import EFFORTS, Options
from rexnet_export.targets import chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--effort", choices=EFFORTS, default="default")
    options = parser.parse_args()
    print("| file | executed by | stride 4 | stride 8 | stride 16 | stride 32 |")
    print("|--|--|--|--|--|--|")
    for precision in PRECISIONS:
        measure(precision, options.images, options.effort)
    print(f"\nSQNR in dB on {options.images:,} images, INT8 with --effort {options.effort}, ", end="")
    print(f"rexnet_export {rexnet_export.__version__}")


def measure(precision: Precision, images: int, effort: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asked = Options(precision=precision, eval_images=images, effort=effort, output=Path(folder) / "out")
        targets = [target for target in chosen(asked.target, precision) if target.name != "gpu"]
        report = export_backbone(asked, targets, Silent())
    for name, file in files(report):
        cells = [f"{name}, {precision}", str(file.executed_by), *levels(file, len(report.card.features))]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
