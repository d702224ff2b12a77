"""What groups of channels cost: INT8 files with groups against the plain INT8 file; prints a Markdown table.

    python benchmarks/grouping.py [--image-size 224] [--rounds 60] [--layers features.1.expand ...] [--groups 2 4]

rexnet_100 with random weights, one thread, interleaved; CPU time of the thread, which other work on the machine hardly
disturbs. Sizes of groups are multiples of `--multiple`.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch

from rexnet_export.pipeline.artifact.target import Session, Source
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.core.records import Artifact, ModelCard, Preprocess, stored_file
from rexnet_export.pipeline.graph.float_graph import write_float_onnx
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.pipeline.proof.latency import measure
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.table.rewrites import ChannelGrouping
from rexnet_export.quantization.table.table import Calibration
from rexnet_export.targets import TARGETS

EVERY = "every layer"
LAYERS = [EVERY, "stem", "features.1.expand", "features.2.expand", "features.6.expand", "features.12.expand"]
LAYERS += ["features.15.expand", "penultimate"]
RUNTIMES = ("LiteRT", "ONNX Runtime, x86 preset")
PLAIN = "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--groups", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--multiple", type=int, default=8)
    options = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (2, options.image_size, options.image_size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        model, card = network(options.image_size, Path(folder))
        cases: dict[str, list[ChannelGrouping]] = {PLAIN: []}
        for layer in options.layers:
            for groups in options.groups:
                cases[f"{layer} | {groups}"] = list(groupings(model, layer, groups, options.multiple))
        opened = {
            name: sessions(apply(model, found), card, images, Path(tempfile.mkdtemp(dir=folder)))
            for name, found in cases.items()
        }
        times = [
            measure(
                {name: found[runtime].run for name, found in opened.items()},
                images[:1],
                Silent(),
                rounds=options.rounds,
                clock=time.thread_time_ns,
            )
            for runtime in range(len(RUNTIMES))
        ]
    print(f"| layer | groups | {' | '.join(f'{runtime}: grouped / plain' for runtime in RUNTIMES)} |\n|--|--|--|--|")
    for name in list(cases)[1:]:
        print(f"| {name} | {' | '.join(f'{found[name].p50_ms / found[PLAIN].p50_ms:.3f}' for found in times)} |")
    plain = ", ".join(f"{runtime} {found[PLAIN].p50_ms:.2f} ms" for runtime, found in zip(RUNTIMES, times, strict=True))
    print(f"\n{times[0][PLAIN].machine}, n = {options.rounds}, {options.image_size} px; plain: {plain}")


def network(size: int, folder: Path) -> tuple[onnx.ModelProto, ModelCard]:
    torch.manual_seed(0)
    labels = tuple(map(str, range(1000)))
    card = ModelCard(name="rexnet_100", labels=labels, preprocess=Preprocess(size=size), checkpoint_sha256="0" * 64)
    written = write_float_onnx(ReXNet(architecture("v1", 1.0)).eval(), card, folder / "float.onnx")
    return onnx.load(written.path), card


def groupings(model: onnx.ModelProto, layer: str, groups: int, multiple: int) -> Iterator[ChannelGrouping]:
    """Equal parts of one layer or of all, in the old order."""
    rows = {tensor.name.removesuffix(".weight"): tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    for node in model.graph.node:
        name = node.name
        expands = name.endswith(".expand") or name in {"stem", "penultimate"}
        if name != layer and (layer != EVERY or not expands):
            continue
        cuts = [round(rows[name] * part / groups / multiple) * multiple for part in range(1, groups)]
        sizes = np.diff([0, *cuts, rows[name]]).tolist()
        yield ChannelGrouping(tensor=name, order=tuple(range(rows[name])), sizes=tuple(sizes))


def sessions(model: onnx.ModelProto, card: ModelCard, images: np.ndarray, folder: Path) -> list[Session]:
    """The network in LiteRT and in ONNX Runtime."""
    path = folder / "grouped.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    calibration = Calibration(images_sha256="0" * 64, images=len(images), statistic="min-max", seed=0)
    table = decide(model, observe(path, [images], observed_tensors(model)), calibration)
    onnx.save(insert_qdq(model, table, "int8"), folder / "qdq.onnx")
    source = Source(
        card=card,
        precision="int8",
        checkpoint=stored_file(path),
        float_onnx=stored_file(path),
        table=table,
        qdq_onnx=stored_file(folder / "qdq.onnx"),
    )
    lite = TARGETS["tflite"].convert(source, folder, "grouped")
    mobile = TARGETS["ort"].convert(source, folder, "grouped")
    x86 = Artifact(target="ort", precision="int8", file=mobile.presets["x86"])
    return [TARGETS["tflite"].open(lite), TARGETS["ort"].open(x86)]


if __name__ == "__main__":
    main()
