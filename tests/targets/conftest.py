"""One small network and all a target may convert from, shared by the target tests."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from depths import SHORT
from lively_networks import blotches, lively
from numpy.typing import NDArray
from shared import ArtifactOf, shared

from rexnet_export.pipeline.artifact.self_test import enlarge
from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.checkpoint.load import save_checkpoint
from rexnet_export.pipeline.core.records import Artifact, ModelCard, Precision, Preprocess, stored_file
from rexnet_export.pipeline.graph.float_graph import write_float_onnx
from rexnet_export.pipeline.model.architecture import Architecture, architecture, stages_at
from rexnet_export.pipeline.model.rexnet import ReXNet
from rexnet_export.quantization.calibration.observe import observe
from rexnet_export.quantization.rewrites.rewrite import apply
from rexnet_export.quantization.scheme.insert_qdq import insert_qdq
from rexnet_export.quantization.scheme.scheme import decide, observed_tensors
from rexnet_export.quantization.search.float_islands import with_islands
from rexnet_export.quantization.table.rewrites import ChannelGrouping
from rexnet_export.quantization.table.table import Calibration
from rexnet_export.targets import TARGETS

PREPROCESS = Preprocess(size=32, crop_ratio=1.0, interpolation="bilinear", mean=(0.5, 0.4, 0.3))
GROUPS = {"stem": 2, "features.1.expand": 2, "features.3.expand": 3, "features.5.expand": 4, "penultimate": 2}
DEEP_GROUPS = {"stem": 2, "features.1.expand": 2, "features.3.expand": 3, "features.8.expand": 4, "penultimate": 2}
LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot ✓")


@pytest.fixture(scope="session")
def network() -> ReXNet:
    """ReXNet of width 0.5 and six blocks, in eval mode, with lively BatchNorm statistics."""
    torch.manual_seed(0)
    return lively(ReXNet(architecture(width=0.5, classes=len(LABELS), stages=SHORT)), PREPROCESS)


@pytest.fixture(scope="session")
def deep_network() -> ReXNet:
    """The same with nine blocks, which have room for islands between others."""
    torch.manual_seed(0)
    return lively(ReXNet(architecture(width=0.5, classes=len(LABELS), stages=stages_at(0.35))), PREPROCESS)


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    return blotches(19, PREPROCESS.size, seed=2)


@pytest.fixture(scope="session")
def plain_sources(
    network: ReXNet, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[Precision, Source]:
    """All a target may convert from, by precision."""
    return made(network, images, tmp_path_factory.mktemp("sources"), {})


@pytest.fixture(scope="session")
def sources(plain_sources: Mapping[Precision, Source]) -> Mapping[Precision, Source]:
    """What a test converts from where it does not say otherwise."""
    return plain_sources


@pytest.fixture(scope="session")
def grouped_sources(
    network: ReXNet, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[Precision, Source]:
    """The same network with groups of channels where a block has a gate, where it has none, and at both ends."""
    return made(network, images, tmp_path_factory.mktemp("grouped"), GROUPS)


def layer(name: str, *rest: str) -> tuple[str, ...]:
    """A convolution and what follows it, by output name."""
    return (name, *(f"{name}.{part}" for part in rest))


FIRST, LAST = layer("stem", "sigmoid", "silu"), ("logits",)
MIDDLE = (*layer("features.4.project"), "features.4.residual.pad", "features.4.residual")
NEIGHBOURS = (
    *layer("features.6.expand", "sigmoid", "silu"),
    "features.6.depthwise",
    *layer("features.6.squeeze", "relu"),
    *(f"features.6.{part}" for part in ("pool", "excite", "gate", "gated", "relu6")),
)
STRIDED = ("features.1.depthwise", "features.1.relu6")
ALONE = ("features.7.project",)  # reads INT8 and gives INT8: no activation is float


@pytest.fixture(scope="session")
def mixed_sources(
    deep_network: ReXNet, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[Precision, Source]:
    """The network with islands of float: first and last layer, in the middle, neighbours, strided, and one layer."""
    islands = (*FIRST, *LAST, *MIDDLE, *NEIGHBOURS, *STRIDED, *ALONE)
    return made(deep_network, images, tmp_path_factory.mktemp("mixed"), {}, islands)


@pytest.fixture(scope="session")
def grouped_mixed_sources(
    deep_network: ReXNet, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[Precision, Source]:
    """Islands where channels are in groups: one group alone, and a whole block with all that joins its groups."""
    one_group = [f"features.3.expand.{part}g1" for part in ("", "sigmoid.", "silu.")]
    islands = [*one_group, "features.8."]
    return made(deep_network, images, tmp_path_factory.mktemp("grouped-mixed"), DEEP_GROUPS, islands)


@pytest.fixture(scope="session")
def artifact_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ArtifactOf:
    """A target's artifact at a precision, from the network in a form ("plain", "grouped", "mixed", "grouped_mixed").

    Each is made once for all test processes, and read only.
    """

    def artifact_of(name: str, precision: Precision, form: str) -> Artifact:
        def convert(folder: Path) -> None:
            source: Source = request.getfixturevalue(f"{form}_sources")[precision]
            private = folder / "parent" / "private"
            private.mkdir(parents=True)
            artifact = TARGETS[name].convert(source, private, f"{source.card.name}-{precision}")
            (folder / "artifact").write_bytes(pickle.dumps(artifact))

        folder = shared(tmp_path_factory, f"{name}-{precision}-{form}", convert)
        artifact: Artifact = pickle.loads((folder / "artifact").read_bytes())  # noqa: S301 - our own
        return artifact

    return artifact_of


@pytest.fixture(scope="session")
def sources_of(
    images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Architecture], Mapping[Precision, Source]]:
    """The same for a seeded network of any architecture; `zero_bias` is its classifier's, as timm starts it."""

    def build(spec: Architecture, *, zero_bias: bool = False) -> Mapping[Precision, Source]:
        torch.manual_seed(0)
        network = lively(ReXNet(spec), PREPROCESS)
        if zero_bias:
            torch.nn.init.zeros_(network.head.fc.bias)
        return made(network, images, tmp_path_factory.mktemp("variant"), {})

    return build


@pytest.fixture(scope="session")
def rectangular_sources(
    network: ReXNet, images: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[Precision, Source]:
    """The same for an input that is no square, with sides that are odd after four halvings."""
    preprocess = replace(PREPROCESS, size=(80, 48))
    tall = enlarge(images, preprocess.shape)
    folder = tmp_path_factory.mktemp("rectangle")
    return made(network, tall, folder, {}, preprocess=preprocess, golden=images[:2])


@pytest.fixture(scope="session")
def channel_sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReXNet, Mapping[Precision, Source]]:
    """The same for a network whose images have four channels, beside that network."""
    preprocess = replace(PREPROCESS, mean=(0.5, 0.4, 0.3, 0.6), std=(0.2, 0.3, 0.25, 0.3))
    torch.manual_seed(0)
    network = lively(ReXNet(replace(architecture(width=0.5, classes=6, stages=SHORT), channels=4)), preprocess)
    images = blotches(19, 32, seed=2, channels=4)
    folder = tmp_path_factory.mktemp("channels")
    return network, made(network, images, folder, {}, preprocess=preprocess, golden=images[:2])


def made(
    network: ReXNet,
    images: NDArray[np.uint8],
    folder: Path,
    groups: Mapping[str, int],
    islands: Sequence[str] = (),
    *,
    preprocess: Preprocess = PREPROCESS,
    golden: NDArray[np.uint8] | None = None,
) -> Mapping[Precision, Source]:
    """Checkpoint, graphs and table in `folder`, with the outputs of some convolutions in that many groups.

    The nodes of `islands`, by output name, are left in float; a name that ends in a dot stands for all that begin so.
    """
    labels = LABELS[: network.spec.classes]
    checkpoint = save_checkpoint(
        folder / "small.safetensors", network, labels=labels, preprocess=preprocess, metadata={}, half=False
    )
    card = ModelCard(name="rexnet_050", labels=labels, preprocess=preprocess, checkpoint_sha256=checkpoint.sha256)
    written = write_float_onnx(network, card, folder / "small.onnx")
    model = apply(onnx.load(written.path), [interleaved(network, name, count) for name, count in groups.items()])
    written.path.write_bytes(model.SerializeToString(deterministic=True))
    float_onnx = stored_file(written.path)
    calibration = Calibration(images_sha256="0" * 64, images=len(images), statistic="min-max", seed=0)
    table = decide(model, observe(float_onnx.path, [images], observed_tensors(model)), calibration)
    inside = [o for n in model.graph.node for o in n.output if o in islands or o.startswith(prefixes(islands))]
    table = with_islands(model, table, dict.fromkeys(inside, "a test"))
    onnx.save(insert_qdq(model, table, "int8"), folder / "small-qdq.onnx")
    full = Source(
        card=card,
        precision="fp32",
        checkpoint=checkpoint,
        float_onnx=float_onnx,
        golden=images[:2] if golden is None else golden,
    )
    return {
        "fp32": full,
        "fp16": replace(full, precision="fp16"),
        "w8": replace(full, precision="w8"),
        "w4": replace(full, precision="w4"),
        "int8": replace(
            full,
            precision="int8",
            table=table,
            table_sha256="5" * 64,
            qdq_onnx=stored_file(folder / "small-qdq.onnx"),
        ),
    }


def prefixes(islands: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in islands if name.endswith("."))


def interleaved(network: ReXNet, tensor: str, groups: int) -> ChannelGrouping:
    """Every so-manieth channel of a convolution's output in one group."""
    stem, *blocks = network.spec.stem, *(block.expanded for block in network.spec.blocks)
    count = {"stem": stem, "penultimate": network.spec.penultimate}.get(tensor) or blocks[int(tensor.split(".")[1])]
    parts = [range(first, count, groups) for first in range(groups)]
    return ChannelGrouping(
        tensor=tensor,
        order=tuple(channel for part in parts for channel in part),
        sizes=tuple(len(part) for part in parts),
    )
