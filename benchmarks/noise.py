"""Where INT8's noise comes from, and what learned biases would bring beyond an export's; prints Markdown.

    python benchmarks/noise.py [--networks NAME=FILE ...] [--images 2000] [--steps 40]

The table of `--effort default`, found as `ablation.py` finds it, and changes of it: parts of it in float, and biases
that were corrected or learned on the calibration images that set ranges. `gained` and `lost` are images that agree
with float by one and not by the other. `margin` is the error of the largest logit minus the second, its standard
deviation over the least sure tenth of the images: what decides how many flip, and far steadier than counting those.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import ablation
import networks
import numpy as np
import onnx
import torch
from networks import Network
from numpy.typing import NDArray

from rexnet_export.apps.shared.terminal import Terminal
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.quantization.learned.fake_quant import FakeQuantNetwork
from rexnet_export.quantization.onnx.simulate import compare, run
from rexnet_export.quantization.onnx.view import view
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import WEIGHTED
from rexnet_export.quantization.search import bias_correction
from rexnet_export.quantization.search.bias_correction import correct_biases
from rexnet_export.quantization.search.search import Draft, Evidence, search
from rexnet_export.quantization.table.rounding_mask import mask_text
from rexnet_export.quantization.table.table import QuantTable, TensorEntry

FLOAT = TensorEntry(decision="float", reason="left out to see what the others do")
BATCH = 16
RATES = {"weights": 1e-4, "derived": 5e-4}  # about a fiftieth of a step of INT8, of a weight and of a layer's output
HEAD = "| change | judged dB | SQNR dB | agreement % | gained, lost | margin |\n|--|--|--|--|--|--|"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks.add_flags(flags, images=2_000, output="build/noise")
    flags.add_argument("--steps", type=int, default=40, help=f"of distillation, {BATCH} images each")
    options = flags.parse_args()
    terminal = Terminal("noise", sys.stdout, sys.stderr, quiet=False, log=Path(os.devnull))
    for network in networks.prepared(options):
        print(f"\n{network.name}\n\n{HEAD}")
        for row in rows(network, options.steps, terminal):
            print(row, flush=True)
    print(f"\n{processor()}, {options.images} evaluation and {options.calibration_images} calibration images")


def rows(network: Network, steps: int, progress: Progress) -> Iterator[str]:
    """Every change of one network's table, measured."""
    model = onnx.load(network.float_onnx.path)
    evidence = ablation.gathered(model, network)
    images = network.inputs.evaluation
    pixels = np.concatenate(
        list(batches(images.source, network.inputs.card.preprocess, images.indices, networks.BATCH))
    )
    reference = run(model, pixels)
    draft = search(model, evidence, ablation.STEPS, progress.note)
    first = run(insert_qdq(draft.model, draft.table, "uint8"), pixels)
    for name, table in changes(draft, evidence, steps):
        quantized = insert_qdq(draft.model, table, "uint8")
        found, judged = run(quantized, pixels), evidence.judge.score(quantized)
        yield f"| {name} | {judged.sqnr_db:.1f} | {_cells(reference, found, first)} |"


def changes(draft: Draft, evidence: Evidence, steps: int) -> Iterator[tuple[str, QuantTable]]:
    """The table as it is, then in turn with one change."""
    model, table, images = draft.model, draft.table, evidence.sample
    layers = [node.output[0] for node in model.graph.node if node.op_type in WEIGHTED]
    parameters = view(model).constants.keys() & table.tensors.keys()
    activations = table.tensors.keys() - parameters
    yield "none: `--effort default`", table
    yield "only weights and biases in INT8", _floating(table, activations)
    yield "only activations in INT8", _floating(table, parameters)
    yield "only activations in INT8, without the logits", _floating(table, {*parameters, "logits"})
    yield "no bias corrected", _plain(table)
    yield "all biases corrected, as the search tries it", correct_biases(model, table, images, layers)
    with patch.object(bias_correction, "clipped", lambda model, _: model):
        against_float = correct_biases(model, table, images, layers)
    yield "all biases corrected, clipping too: NNCF's full form", against_float
    yield "the classifier's bias alone corrected", correct_biases(model, table, images, layers[-1:])
    yield f"biases distilled, {steps} steps", distilled(model, table, images, {"derived"}, steps)
    yield (
        f"biases and rounding distilled, {steps} steps",
        distilled(model, table, images, {"derived", "weights"}, steps),
    )


def distilled(
    model: onnx.ModelProto, table: QuantTable, images: NDArray[np.uint8], what: Collection[str], steps: int
) -> QuantTable:
    """The table with corrections (and rounding) that bring the logits for uint8 [n, S, S, 3] nearest to float's.

    `what` are decisions of a table: those parameters are trained all together, by Adam, straight through the rounding.
    """
    network, reference = FakeQuantNetwork(model, table), torch.from_numpy(run(model, images))
    trained = {name: entry for name, entry in table.tensors.items() if entry.decision in what}
    network.freeze(set(network.parameter_names) - trained.keys())
    by_name = {name: network.value[name.replace(".", ":")] for name in trained}
    optimizer = torch.optim.Adam(
        [{"params": [value], "lr": RATES[trained[name].decision]} for name, value in by_name.items()]
    )
    generator = torch.Generator().manual_seed(0)
    order = torch.cat(
        [torch.randperm(len(images), generator=generator) for _ in range(steps * BATCH // len(images) + 1)]
    )
    for chosen in order[: steps * BATCH].split(BATCH):
        error = network(torch.from_numpy(images[chosen.numpy()])) - reference[chosen]
        loss = (error - error.mean(1, keepdim=True)).square().mean()  # what all classes share flips nothing
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    before, after = (view(each).constants for each in (model, network.model()))
    entries = {name: _learned(table, name, before[name], after[name]) for name in trained}
    return replace(table, tensors={**table.tensors, **entries})


def _learned(table: QuantTable, name: str, before: NDArray[np.float32], after: NDArray[np.float32]) -> TensorEntry:
    """What a table can say of a trained parameter: a bias's change, or which weights went to the second nearest."""
    entry = table.tensors[name]
    assert entry.params is not None
    if entry.decision == "derived":
        change = np.asarray(entry.correction or 0.0) + (after.astype(np.float64) - before)
        return replace(entry, correction=tuple(change.tolist()))
    nearest, second = entry.params.quantize(before), entry.params.second_nearest(before)
    turned = (table.integers(name, after) - nearest) * (second - nearest) > 0
    return replace(entry, rounding=mask_text(turned))


def _floating(table: QuantTable, names: Collection[str]) -> QuantTable:
    return replace(table, tensors={**table.tensors, **dict.fromkeys(names, FLOAT)})


def _plain(table: QuantTable) -> QuantTable:
    tensors = {name: replace(entry, correction=None) for name, entry in table.tensors.items()}
    return replace(table, tensors=tensors)


def _cells(reference: NDArray[np.float32], found: NDArray[np.float32], first: NDArray[np.float32]) -> str:
    score = compare(reference, found)
    now, before = (logits.argmax(1) == reference.argmax(1) for logits in (found, first))
    counts = f"{(now & ~before).sum()}, {(before & ~now).sum()}"
    return f"{score.sqnr_db:.1f} | {100 * score.agreement:.2f} | {counts} | {margin_noise(reference, found):.3f}"


def margin_noise(reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Standard deviation of the error of largest minus second logit, over the least sure tenth; logits [n, classes]."""
    ranks = np.argsort(reference, axis=1)
    ends = ranks[:, -1:], ranks[:, -2:-1]

    def margins(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        first, second = (np.take_along_axis(logits, each, axis=1) for each in ends)
        return (first - second)[:, 0]

    least = np.argsort(margins(reference))[: max(1, len(reference) // 10)]
    return float((margins(found) - margins(reference))[least].std())


if __name__ == "__main__":
    main()
