"""What each network of an export's proof costs in processor time, and whether its logits are still those of the export.

    rexnet-export --target all --int8 --output before
    python benchmarks/proof.py before [--images 1024] [--only reference coreml ort]

Every network that the folder's report says was run is run again on the first of its images, in the proof's own batches:
the float network in torch, the ONNX graphs, the artifacts. Milliseconds are processor time of the whole process, idle
threads included; "equal" says whether the logits are those of `predictions.npz` to the last bit, on those of the images
that the export asked this network about.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np
from numpy.lib.npyio import NpzFile

import rexnet_export
from rexnet_export.apps.gate.accuracy.evidence import PREDICTIONS_FILE, read_evidence
from rexnet_export.pipeline.accuracy.evaluate import BATCH, Logits
from rexnet_export.pipeline.accuracy.places import places_key
from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.artifact.target import Session
from rexnet_export.pipeline.checkpoint.load import load_checkpoint
from rexnet_export.pipeline.core.records import Artifact, ModelCard, stored_file
from rexnet_export.pipeline.data.sources import batches, bundled
from rexnet_export.pipeline.machine.environment import processor, usable_cores
from rexnet_export.pipeline.model.torch_session import open_reference
from rexnet_export.pipeline.proof.onnx_stages import predictions_key, stages
from rexnet_export.targets import TARGETS

GPU = "gpu"  # its file has the float network that the reference is


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an export for all targets, of the bundled network")
    parser.add_argument("--images", type=int, default=16 * BATCH, help="how many of the first (default: %(default)s)")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="names of arrays in predictions.npz")
    options = parser.parse_args()
    card, source = _card(options.folder), bundled("evaluation")
    print("| network | ms of processor time an image | equal |\n|--|--|--|")
    with np.load(options.folder / PREDICTIONS_FILE) as then:
        places = {name: index for index, name in enumerate(source.ids)}
        chosen = [places[name] for name in then["ids"][: options.images]]
        pixels = list(batches(source, card.preprocess, chosen, BATCH))
        for name, session in _sessions(options.folder, card):
            if options.only and name not in options.only:
                continue
            session.run(pixels[0])  # kernels are chosen and memory is taken the first time
            started = process_time()
            logits = np.concatenate([session.run(images) for images in pixels])
            busy = process_time() - started
            equal = np.array_equal(*_asked(then, name, logits))
            print(f"| {name} | {1000 * busy / len(logits):.2f} | {'yes' if equal else 'no'} |", flush=True)
    print(f"\nn = {len(chosen):,}, {usable_cores()} cores, {processor()}, rexnet_export {rexnet_export.__version__}")


def _asked(then: NpzFile, name: str, logits: Logits) -> tuple[Logits, Logits]:
    """Logits now and then of those of these images that the export asked the network about."""
    places = then[places_key(name)] if places_key(name) in then else np.arange(len(then[name]))
    asked = places[places < len(logits)]
    return logits[asked], then[name][: len(asked)]


def _card(folder: Path) -> ModelCard:
    return card_from(load_checkpoint(folder / read_evidence(folder).targets[GPU].file).metadata)


def _sessions(folder: Path, card: ModelCard) -> Iterator[tuple[str, Session]]:
    """One after another by the name of its logits, opened when it is its turn."""
    evidence = read_evidence(folder)
    network = load_checkpoint(folder / evidence.targets[GPU].file).network
    yield "reference", open_reference(network, card.preprocess)
    for name, graph in evidence.stages.items():
        key = predictions_key(name)
        yield key, stages({name: stored_file(folder / graph.file)})[key].open()  # type: ignore[dict-item]
    for name, made in evidence.targets.items():
        target = name.partition(" ")[0]
        precision = "fp32" if target == GPU else evidence.precision
        artifact = Artifact(target=target, precision=precision, file=stored_file(folder / made.file))
        yield name.replace(" ", "-"), TARGETS[target].open(artifact)


if __name__ == "__main__":
    main()
