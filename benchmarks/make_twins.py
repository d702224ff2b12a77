"""Write hard twins of the bundled checkpoint into a folder, with their float top-1 on the bundled evaluation images.

python benchmarks/make_twins.py FOLDER [NAME...]

Uses nothing but what the package brings along.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.checkpoint.load import LoadedCheckpoint, load_checkpoint, save_checkpoint
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.data.sources import ImageSource, batches, bundled, choose
from rexnet_export.pipeline.graph.float_graph import float_graph
from rexnet_export.pipeline.model.rexnet import ReXNet

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
import twins

IMAGES = 10_000
EXACT: dict[str, Callable[[ReXNet], ReXNet]] = {
    "chain-0": partial(twins.chain_twin, seed=0),
    "chain-1": partial(twins.chain_twin, seed=1),
    "chain-2-spread-4": partial(twins.chain_twin, seed=2, spread=4),
    "squeeze-0": partial(twins.squeeze_twin, seed=0),
}
CHANGED: dict[str, Callable[[ReXNet], ReXNet]] = {
    "spread-0": partial(twins.spread_twin, seed=0),
    "spread-1": partial(twins.spread_twin, seed=1),
    "spread-wide-0": partial(twins.spread_twin, seed=0, low=1 / 4, high=128),
    "gate-0": partial(twins.gate_twin, seed=0),
    "gate-wide-0": partial(twins.gate_twin, seed=0, low=1 / 4, high=128),
    "chain-spread-0": lambda network: twins.chain_twin(twins.spread_twin(network)),
    "combined-0": partial(twins.combined, seed=0),
}


def main(folder: Path, names: list[str]) -> None:
    original = load_checkpoint(bundled_checkpoint())
    assert original.preprocess is not None
    for name in names or [*EXACT, *CHANGED]:
        start = perf_counter()
        network = made(original, name)
        path = folder / f"{name}.safetensors"
        save_checkpoint(
            path,
            network,
            labels=original.labels,
            preprocess=original.preprocess,
            metadata={"twin": name},
            half=False,
        )
        seconds = perf_counter() - start
        line = f"{name}: float top-1 {accuracy(path, IMAGES):.4f} on {IMAGES} images, made in {seconds:.0f} s"
        with (folder / "README.txt").open("a", encoding="utf-8") as stream:
            print(line, file=stream)
        print(line, flush=True)


def made(original: LoadedCheckpoint, name: str) -> ReXNet:
    """A twin that is not the same function gets BatchNorm statistics of the calibration images."""
    if name in EXACT:
        return EXACT[name](original.network)
    assert original.preprocess is not None
    source, twin = bundled("calibration"), CHANGED[name](original.network)
    return twins.settled(twin, pixels(source, original.preprocess, list(range(len(source)))), original.preprocess)


def pixels(source: ImageSource, preprocess: Preprocess, indices: list[int]) -> NDArray[np.uint8]:
    return np.concatenate(list(batches(source, preprocess, indices, 256)))


def accuracy(path: Path, images: int) -> float:
    """Float top-1 in ONNX Runtime, which is much faster than torch on a CPU."""
    checkpoint, source = load_checkpoint(path), bundled("evaluation")
    assert checkpoint.preprocess is not None
    assert source.labels is not None
    graph = float_graph(checkpoint.network, checkpoint.preprocess).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    chosen = choose(source, images, 0)
    best = [
        session.run(None, {"image": batch})[0].argmax(1) for batch in batches(source, checkpoint.preprocess, chosen, 64)
    ]
    return float(np.mean(np.concatenate(best) == np.array(source.labels)[chosen]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    if unknown := set(options.names) - EXACT.keys() - CHANGED.keys():
        parser.error(f"no twin is called {min(unknown)}; there are {', '.join([*EXACT, *CHANGED])}")
    options.folder.mkdir(parents=True, exist_ok=True)
    main(options.folder, options.names)
