"""Which ranges few judges prefer, and which ones many images do; prints Markdown.

    python benchmarks/ranges.py [--networks NAME=FILE ...] [--images 10000]

After channels were evened out and grouped: every statistic for all tensors, and the ranges of least predicted noise, as
the UINT8 QDQ graph in ONNX Runtime.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import ablation
import networks
import numpy as np
import onnx
from networks import Network

from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.machine.environment import processor
from rexnet_export.quantization.onnx.simulate import Score, Simulator, simulator
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import decide
from rexnet_export.quantization.search.choose_ranges import candidates
from rexnet_export.quantization.search.search import equalized, grouped, search


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    networks.add_flags(flags, images=10_000, output="build/ranges")
    options = flags.parse_args()
    found = {network.name: tried(network) for network in networks.prepared(options)}
    print(f"| judged dB / SQNR dB / agreement % | {' | '.join(found)} |\n|--|{'--|' * len(found)}")
    for name in next(iter(found.values())):
        print(f"| {name} | {' | '.join(cell(*scores[name]) for scores in found.values())} |")
    print(f"\n{processor()}, n = {options.images:,}, {options.calibration_images} calibration images, a third judges")


def tried(network: Network) -> Mapping[str, tuple[Score, Score]]:
    """By statistic: what the judges find, and what all evaluation images do."""
    model = onnx.load(network.float_onnx.path)
    evidence = ablation.gathered(model, network)
    draft = search(model, evidence, [equalized, grouped], lambda _: None)
    ranges = candidates(draft.statistics, evidence.slopes(draft.model, draft.statistics))
    everything = all_images(model, network)

    def scored(name: str) -> tuple[Score, Score]:
        table = decide(draft.model, draft.statistics, evidence.calibration, ranges[name])
        quantized = insert_qdq(draft.model, table, "uint8")
        return evidence.judge.score(quantized), everything.score(quantized)

    return {name: scored(name) for name in ranges}


def all_images(model: onnx.ModelProto, network: Network) -> Simulator:
    """A judge that has every evaluation image."""
    images, preprocess = network.inputs.evaluation, network.inputs.card.preprocess
    pixels = np.concatenate(list(batches(images.source, preprocess, images.indices, networks.BATCH)))
    return simulator(model, pixels)


def cell(judged: Score, found: Score) -> str:
    return f"{judged.sqnr_db:.1f} / {found.sqnr_db:.1f} / {100 * found.agreement:.2f}"


if __name__ == "__main__":
    main()
