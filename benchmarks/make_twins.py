"""Write hard twins of the bundled checkpoint into a folder, with their float top-1 on the bundled evaluation images.

python benchmarks/make_twins.py FOLDER [NAME...]

The ones that are not the same function are fine-tuned on Fashion-MNIST's training images, from Debian's package
`dataset-fashion-mnist`; a few minutes each on two cores.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rexnet_export.pipeline.checkpoint import LoadedCheckpoint, load_checkpoint, save_checkpoint
from rexnet_export.pipeline.data import ImageSource, batches, bundled, choose, open_source
from rexnet_export.pipeline.graph import float_graph
from rexnet_export.pipeline.inputs import bundled_checkpoint
from rexnet_export.pipeline.records import Preprocess
from rexnet_export.pipeline.rexnet import ReXNet

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
import twins

TRAINING = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
TRAINING_IMAGES = 16_000
IMAGES = 10_000
TWINS: dict[str, tuple[Callable[[ReXNet], ReXNet], int]] = {  # and how many steps of fine-tuning
    "chain-0": (partial(twins.chain_twin, seed=0), 0),
    "chain-1": (partial(twins.chain_twin, seed=1), 0),
    "chain-2-spread-4": (partial(twins.chain_twin, seed=2, spread=4), 0),
    "squeeze-0": (partial(twins.squeeze_twin, seed=0), 0),
    "spread-0": (partial(twins.spread_twin, seed=0), 400),
    "spread-1": (partial(twins.spread_twin, seed=1), 400),
    "gate-0": (partial(twins.gate_twin, seed=0), 200),
    "combined-0": (partial(twins.combined, seed=0), 0),
}


def main(folder: Path, names: list[str]) -> None:
    original = load_checkpoint(bundled_checkpoint())
    assert original.preprocess is not None
    for name in names or TWINS:
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
    transform, steps = TWINS[name]
    if name.startswith("combined"):
        # Only the inner two change the function; the exact rescaling afterwards needs no training.
        inner = tuned(original, twins.gate_twin(twins.spread_twin(original.network)), 500)
        return twins.chain_twin(twins.squeeze_twin(inner))
    twin = transform(original.network)
    return tuned(original, twin, steps) if steps else twin


def tuned(original: LoadedCheckpoint, twin: ReXNet, steps: int) -> ReXNet:
    assert original.preprocess is not None
    return twins.fine_tuned(twin, original.network, training(original.preprocess), original.preprocess, steps=steps)


@cache
def training(preprocess: Preprocess) -> NDArray[np.uint8]:
    source = open_source(TRAINING, labelled=True)
    return pixels(source, preprocess, choose(source, TRAINING_IMAGES, 0))


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
    main(Path(sys.argv[1]), sys.argv[2:])
