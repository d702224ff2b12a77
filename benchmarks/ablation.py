"""What each step of the quantizer brings: the search with one step left out; prints Markdown.

    python benchmarks/ablation.py [--networks NAME=FILE ...] [--images 2000]

Judged as an export is: a third of the calibration images sets no range. The UINT8 QDQ graph runs in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import networks
import numpy as np
import onnx
import quantizer_table
from networks import Network

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.quantization.calibration.observe import TensorStatistics, observe
from rexnet_export.quantization.learned.adaround import learn_rounding
from rexnet_export.quantization.learned.logit_slopes import logit_slopes
from rexnet_export.quantization.onnx.simulate import run, simulator
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import observed_tensors
from rexnet_export.quantization.search.search import (
    Draft,
    Evidence,
    Step,
    corrected,
    equalized,
    grouped,
    judged,
    ranges_chosen,
    search,
)
from rexnet_export.quantization.table.table import Calibration

STEPS: tuple[Step, ...] = (equalized, grouped, ranges_chosen, corrected)
PLAIN, WHOLE, ROUNDED = "none: min-max", "all (--effort default)", "all, and learned rounding (--effort high)"
TITLES: Mapping[str, str] = {
    PLAIN: PLAIN,
    **{f"without {step.__name__}": f"all but *{step.__name__.replace('_', ' ')}*" for step in STEPS},
    WHOLE: WHOLE,
    ROUNDED: ROUNDED,
}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks.add_flags(flags, images=2_000, output="build/ablation")
    options = flags.parse_args()
    terminal = Terminal("ablation", sys.stdout, sys.stderr, quiet=False, log=Path(os.devnull))
    results = {network.name: ablate(network, terminal) for network in networks.prepared(options)}
    summary = quantizer_table.summary(results, TITLES)
    print(f"{summary}\n\n{processor()}, {options.calibration_images} calibration images")


def ablate(network: Network, progress: Progress) -> quantizer_table.Results:
    """Every row of `TITLES` for one network, on its evaluation images."""
    model = onnx.load(network.float_onnx.path)
    evidence = gathered(model, network)
    images = network.inputs.evaluation
    assert images.labels is not None
    labels = images.labels
    pixels = np.concatenate(
        list(batches(images.source, network.inputs.card.preprocess, images.indices, networks.BATCH))
    )
    reference = run(model, pixels)

    def measured(draft: Draft) -> quantizer_table.Result:
        logits = run(insert_qdq(draft.model, draft.table, "uint8"), pixels)
        return quantizer_table.measured(
            logits, reference, labels, executed_by="ONNX Runtime", seconds=0.0, peak_mib=None
        )

    drafts = searched(model, evidence, STEPS, progress.note)
    whole = drafts[WHOLE]
    found = {name: measured(draft) for name, draft in drafts.items()}
    rounded = learn_rounding(whole.model, whole.table, evidence.sample, progress)
    found[ROUNDED] = measured(judged(whole, rounded, evidence.judge, "rounding learned"))
    return found


def searched(
    model: onnx.ModelProto, evidence: Evidence, steps: Sequence[Step], say: Callable[[str], None]
) -> dict[str, Draft]:
    """The draft of no step, of all but each, and of all. A search whose result is known already is not run."""
    drafts = [search(model, evidence, [], say)]
    for step in steps:
        say(step.__name__)
        drafts.append(step(drafts[-1], evidence))
    whole = drafts[-1]
    found = {PLAIN: drafts[0]}
    for left_out, before, after in zip(steps, drafts, drafts[1:], strict=False):
        if after.table == before.table:
            without = whole  # what it proposed was not kept
        elif after is whole:
            without = before
        else:
            without = search(model, evidence, [step for step in steps if step is not left_out], say)
        found[f"without {left_out.__name__}"] = without
    return found | {WHOLE: whole}


def gathered(model: onnx.ModelProto, network: Network) -> Evidence:
    """The calibration images, two thirds to observe and one to judge by."""
    images = network.pixels
    held = len(images) // 3
    seen = images[: len(images) - held]
    path = network.folder / "observed.onnx"

    def observed(graph: onnx.ModelProto) -> Mapping[str, TensorStatistics]:
        onnx.save(graph, path)
        return observe(path, [seen], observed_tensors(graph))

    return Evidence(
        observe=observed,
        slopes=lambda graph, statistics: logit_slopes(graph, statistics, seen),
        sample=seen,
        judge=simulator(model, images[len(images) - held :]),
        calibration=Calibration(images_sha256="0" * 64, images=len(images), statistic="auto", seed=0),
        plain="min-max",
    )


if __name__ == "__main__":
    main()
