"""What every quantizer is given of a network: the float graph, the part behind its image front, images, inputs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.core.outputs import LOGITS
from rexnet_export.pipeline.core.records import ModelCard, StoredFile
from rexnet_export.pipeline.data.sources import batches
from rexnet_export.pipeline.export.inputs import Inputs, gather
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.graph.float_graph import write_float_onnx
from rexnet_export.pipeline.machine.onnx_session import images_at_once
from rexnet_export.targets.openvino.toolchain import core
from rexnet_export.targets.ort.session import CPU, OrtSession
from rexnet_export.targets.tflite.flatbuffer import read_graph
from rexnet_export.targets.tflite.match_onnx import CORE_INPUT, Lowered, lower
from rexnet_export.targets.tflite.metadata import entries, with_labels
from rexnet_export.targets.tflite.stamp import IMAGE, attach_ends

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Network:
    """A checkpoint, its float graph, and its calibration images as uint8 [n, S, S, 3]; `folder` is where results go."""

    name: str
    inputs: Inputs
    float_onnx: StoredFile
    pixels: NDArray[np.uint8]
    folder: Path


def add_flags(flags: argparse.ArgumentParser, *, images: int, output: str) -> None:
    """The flags that `prepared` reads."""
    bundled = ("bundled", bundled_checkpoint())
    flags.add_argument("--networks", type=_named, nargs="+", default=[bundled], metavar="NAME=FILE")
    flags.add_argument("--images", type=int, default=images, help="evaluation images")
    flags.add_argument("--calibration-images", type=int, default=128)
    flags.add_argument("--output", type=Path, default=Path(output), metavar="DIR")


def _named(text: str) -> tuple[str, Path]:
    name, _, file = text.partition("=")
    if not name or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, Path(file)


def prepared(flags: argparse.Namespace) -> Iterator[Network]:
    """Every network that was named, one at a time."""
    for name, checkpoint in flags.networks:
        given = Options(
            checkpoint=str(checkpoint),
            calibration_images=flags.calibration_images,
            eval_images=flags.images,
            output=flags.output,
        )
        yield prepare(name, given)


def prepare(name: str, options: Options) -> Network:
    """Load the checkpoint and images that an export with these options takes; files go below `options.output`."""
    inputs = gather(options)
    options.output.mkdir(parents=True, exist_ok=True)
    written = write_float_onnx(inputs.checkpoint.network, inputs.card, options.output / f"{name}.onnx")
    images = inputs.calibration
    assert images is not None
    pixels = np.concatenate(list(batches(images.source, inputs.card.preprocess, images.indices, BATCH)))
    # Results of another network, or with other calibration images, are kept apart.
    folder = options.output / f"{name}-{written.sha256[:8]}-{len(pixels)}"
    folder.mkdir(exist_ok=True)
    return Network(name=name, inputs=inputs, float_onnx=written, pixels=pixels, folder=folder)


def write_core(network: Network, suffix: str) -> tuple[Path, Path]:
    """The float graph from `input` on as `.onnx` or `.tflite`, and its calibration inputs: two files, made once.

    For an OpenVINO IR, `.xml`, it is the whole float graph, and uint8 images.
    """
    model, inputs = network.folder / f"core{suffix}", network.folder / f"core{suffix}.npy"
    if suffix == ".xml":
        save_array(inputs, network.pixels)
        return network.float_onnx.path, inputs
    if not inputs.exists():
        source = onnx.load(network.float_onnx.path)
        values = core_inputs(source, network.pixels)
        if suffix == ".tflite":
            lowered = lower(source)
            ends = {name: lowered.activations[name] for name in (CORE_INPUT, LOGITS)}
            lowered.graph.set_signature({CORE_INPUT: ends[CORE_INPUT]}, {LOGITS: ends[LOGITS]})
            model.write_bytes(lowered.graph.written())
            values = values.transpose(0, 2, 3, 1)
        else:
            onnx.save(_part(source, CORE_INPUT, LOGITS), model)
        save_array(inputs, np.ascontiguousarray(values))
    return model, inputs


def save_array(path: Path, values: NDArray[np.generic]) -> None:
    """Write an `.npy` that appears complete or not at all."""
    part = path.with_suffix(".part.npy")
    np.save(part, values)
    part.replace(path)


def core_inputs(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the image front makes of uint8 [n, S, S, 3]: float32 [n, 4, S, S]."""
    import onnxruntime  # noqa: PLC0415

    front = _part(model, IMAGE, CORE_INPUT).SerializeToString()
    session = onnxruntime.InferenceSession(front, providers=["CPUExecutionProvider"])
    values: NDArray[np.float32] = session.run([CORE_INPUT], {IMAGE: pixels})[0]
    return values


def _part(model: onnx.ModelProto, first: str, last: str) -> onnx.ModelProto:
    """The graph between two tensors; its number of images stays open."""
    part: onnx.ModelProto = onnx.utils.Extractor(model).extract_model([first], [last])
    return part


def with_front(model: onnx.ModelProto, core: onnx.ModelProto) -> onnx.ModelProto:
    """A quantized `core` behind the image front of the float `model`, so that it takes what our own files take."""
    front = _part(model, IMAGE, CORE_INPUT)
    whole = onnx.ModelProto()
    whole.CopyFrom(core)
    del whole.graph.node[:], whole.graph.input[:]
    whole.graph.node.extend([*front.graph.node, *core.graph.node])
    whole.graph.initializer.extend(front.graph.initializer)
    whole.graph.input.extend(front.graph.input)
    onnx.checker.check_model(whole)
    return whole


def put_between_ends(path: Path, card: ModelCard) -> None:
    """Give a `.tflite` that starts at `input` the image front, labels and metadata of our own files, in place."""
    graph = read_graph(path)
    (first,), (last,) = graph.subgraph.inputs, graph.subgraph.outputs
    places = {CORE_INPUT: int(first), LOGITS: int(last)}
    attach_ends(Lowered(graph=graph, activations=places, parameters={}, padded={}, outputs=(LOGITS,)), [LOGITS])
    graph.set_metadata(entries(card, describe(card, precision="int8"), [LOGITS]))
    path.write_bytes(with_labels(graph.written(), card))


def open_onnx(path: Path, size: tuple[int, int]) -> OrtSession:
    """ONNX Runtime, one thread an image: INT8 activations become UINT8, as it prefers on x86; sums are exact there."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")  # else sums saturate where there is no VNNI
    return OrtSession(
        session=onnxruntime.InferenceSession(str(path), options, providers=[CPU]),
        executed_by=f"ONNX Runtime {onnxruntime.__version__}",
        path=path,
        provider=CPU,
        names=(LOGITS,),
        shape=(*size, 3),
        batch=images_at_once(*size),
    )


@dataclass(frozen=True, kw_only=True)
class IrSession:
    """An OpenVINO IR of anybody's, an image at a time on one thread."""

    request: Any
    executed_by: str
    timed: bool = True

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""
        return np.concatenate([self.request.infer([image[None]])[LOGITS].copy() for image in images])

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """The logits alone."""
        return {LOGITS: self.run(images)}


def open_ir(path: Path, size: tuple[int, int]) -> IrSession:
    """OpenVINO's CPU plugin, in float32 what the file leaves in float."""
    model = core().read_model(path)
    model.reshape([1, *size, 3])
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core().compile_model(model, "CPU", settings).create_infer_request()
    return IrSession(request=request, executed_by=f"OpenVINO {version('openvino')}")
