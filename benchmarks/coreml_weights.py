"""Size, drop and agreement of Core ML files by how they store weights, on several networks; prints Markdown.

    python benchmarks/make_twins.py twins spread-wide-0 combined-0
    python benchmarks/coreml_weights.py --networks bundled=assets/rexnet_100-fashion-mnist-64.safetensors \
        spread-wide-0=twins/spread-wide-0.safetensors combined-0=twins/combined-0.safetensors

INT8 is searched for with --effort fast; the others look at no image.
"""

import argparse
import tempfile
from pathlib import Path

import networks

from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import NotMeasured, Precision
from rexnet_export.pipeline.export.export import export
from rexnet_export.pipeline.export.options import FAST, FULL, Options
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.pipeline.proof.results import FileResult
from rexnet_export.targets import chosen

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "w8", "w4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks.add_flags(parser, images=2000, output="coreml-weights")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    flags = parser.parse_args()
    print("| network | file | MB | drop, points | at most (95 %) | agreement | logit SQNR |\n|--|--|--|--|--|--|--|")
    for name, checkpoint in flags.networks:
        for precision in flags.precisions:
            found = measured(checkpoint, precision, flags.images)
            print(f"| {name} | `{precision}` | {cells(found)} |", flush=True)
    print(f"\n{flags.images:,} evaluation images, executed by the MIL interpreter, {processor()}")


def measured(checkpoint: Path, precision: Precision, images: int) -> FileResult:
    """The package of one precision, executed."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Options(
            checkpoint=str(checkpoint),
            target=("coreml",),
            precision=precision,
            effort=FAST,
            eval_images=images,
            proof=FULL,
            output=Path(folder) / "out",
        )
        report = export(asked, chosen(asked.target, precision), Silent(), lambda *_: "")
        return report.targets["coreml"].artifact


def cells(found: FileResult) -> str:
    accuracy, agreement = found.accuracy, found.agreement_with_reference
    assert not isinstance(accuracy, NotMeasured)
    assert not isinstance(agreement, NotMeasured)
    sqnr = "-" if isinstance(found.logit_sqnr_db, NotMeasured) else f"{found.logit_sqnr_db:.1f} dB"
    drop = f"{accuracy.drop * 100:+.2f} | {accuracy.drop_upper_95 * 100:+.2f}"
    return f"{found.file.bytes / 1e6:.2f} | {drop} | {agreement:.2%} | {sqnr}"


if __name__ == "__main__":
    main()
