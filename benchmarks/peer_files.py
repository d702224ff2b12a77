"""Every file that is timed beside ours, made once: the bundled network in other ways, and other networks in INT8."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contenders
import networks
import onnx
import peer_networks
import torch
from networks import Network
from torch import Tensor, nn

import rexnet_export
from rexnet_export.pipeline.core.errors import ExportError
from rexnet_export.pipeline.core.records import Measurement, NotMeasured, Preprocess, stored_file
from rexnet_export.pipeline.export.inputs import bundled_checkpoint
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.model.normalize import Normalize
from rexnet_export.targets.gpu.torch_forms import folded
from rexnet_export.targets.ort.saturation import saturates

REXNET = "ReXNet 1.0x"
ORT, LITERT, OPENVINO, TORCH = "ONNX Runtime", "LiteRT", "OpenVINO", "torch"
IMAGES = {"calibration_images": 64, "eval_images": 16}
# What people make of any float network: runtime, how it is opened, title, and by which quantizer.
QUANTIZED = (
    (ORT, "onnxruntime", "`quantize_static`, per channel", "ort-min-max"),
    (LITERT, "litert", "ai-edge-quantizer", "ai-edge"),
    (OPENVINO, "openvino", "NNCF", "nncf-openvino"),
)
OURS = (
    (ORT, "onnxruntime", "`-vnni.onnx`", "int8", "rexnet_100-int8-vnni.onnx"),
    (ORT, "onnxruntime", "`-x86.ort`", "int8", "rexnet_100-int8-x86.ort"),
    (ORT, "onnxruntime", "`.onnx`", "float32", "rexnet_100-fp32.onnx"),
    (LITERT, "litert", "`.tflite`", "int8", "rexnet_100-int8.tflite"),
    (LITERT, "litert", "`.tflite`", "float32", "rexnet_100-fp32.tflite"),
    (OPENVINO, "openvino", "`.openvino`", "int8", "rexnet_100-int8.openvino/model.xml"),
    (OPENVINO, "openvino", "`.openvino`", "float32", "rexnet_100-fp32.openvino/model.xml"),
    (OPENVINO, "openvino-bf16", "`.openvino`, told to use bf16", "bf16", "rexnet_100-fp32.openvino/model.xml"),
)
COMPILED = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A file of a network in a runtime; `opener` is its name in `peer_worker.OPENERS`, `ours` whether we wrote it."""

    network: str
    runtime: str
    opener: str
    title: str
    numbers: str
    file: Measurement[Path]
    ours: bool = False


def made(size: int, folder: Path, effort: str, python: Path) -> tuple[list[Peer], Mapping[str, onnx.ModelProto]]:
    """All of them at so many pixels, and the float graph of each network; what is below `folder` is not made again."""
    given = Options(checkpoint=str(bundled_checkpoint()), image_size=size, output=folder, **IMAGES)
    bundled = networks.prepare("rexnet", given)
    peers = [*_ours(size, folder, effort), *_quantized(bundled, REXNET, python), *_inductor(bundled, folder)]
    graphs = {REXNET: onnx.load(bundled.float_onnx.path)}
    for name in peer_networks.TIMM:
        other = _other(name, bundled, size, folder)
        peers += _quantized(other, name, python)
        graphs[name] = onnx.load(other.float_onnx.path)
    return peers, graphs


def _ours(size: int, folder: Path, effort: str) -> Iterator[Peer]:
    for precision in ("int8", "fp32"):
        if not (folder / precision).exists():
            given: Any = {"image_size": size, "effort": effort, "output": folder / precision, **IMAGES}
            rexnet_export.export(targets=["ort", "tflite", "openvino"], precision=precision, **given)
    for runtime, opener, title, numbers, name in OURS:
        file: Measurement[Path] = folder / ("int8" if "-int8" in name else "fp32") / name
        if "vnni" in name and saturates():
            file = NotMeasured(reason="this processor has no VNNI")
        whose: Any = {"network": REXNET, "runtime": runtime, "opener": opener, "ours": True}
        yield Peer(title=title, numbers=numbers, file=file, **whose)


def _quantized(network: Network, name: str, python: Path) -> Iterator[Peer]:
    for runtime, opener, title, method in QUANTIZED:
        file = _tried(lambda method=method: contenders.rival_file(method, network, python)[0])  # type: ignore[misc]
        yield Peer(network=name, runtime=runtime, opener=opener, title=title, numbers="int8", file=file)


def _other(name: str, bundled: Network, size: int, folder: Path) -> Network:
    """A network of timm behind the image front of the bundled one, to be quantized on the same images."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        core = peer_networks.core_of(name, len(bundled.inputs.card.labels), size)
        whole = networks.with_front(onnx.load(bundled.float_onnx.path), core)
        onnx.save(onnx.shape_inference.infer_shapes(whole), path)
    own = folder / name
    own.mkdir(exist_ok=True)
    return Network(name=name, inputs=bundled.inputs, float_onnx=stored_file(path), pixels=bundled.pixels, folder=own)


def _inductor(network: Network, folder: Path) -> Iterator[Peer]:
    """torch's compiler ahead of time, BatchNorm folded and weights laid out for the processor."""
    for numbers, kind in COMPILED.items():
        path = folder / f"inductor-{numbers}.pt2"
        file = _tried(lambda path=path, kind=kind: _compiled(network, kind, path))  # type: ignore[misc]
        yield Peer(network=REXNET, runtime=TORCH, opener="torch", title="inductor", numbers=numbers, file=file)


def _compiled(network: Network, kind: torch.dtype, path: Path) -> Path:
    if not path.exists():
        preprocess = network.inputs.card.preprocess
        whole = _FromPixels(folded(network.inputs.checkpoint.network), preprocess, kind).eval()
        with torch.inference_mode():
            program = torch.export.export(whole, (torch.from_numpy(network.pixels[:1]),))
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs={"freezing": True}
            )
    return path


class _FromPixels(nn.Module):
    """uint8 [N, S, S, 3] -> float32 logits, everything between in numbers of a kind."""

    def __init__(self, network: nn.Module, preprocess: Preprocess, kind: torch.dtype) -> None:
        super().__init__()
        self.network = network.to(kind).to(memory_format=torch.channels_last)
        self._normalize, self._kind = Normalize(preprocess, torch.device("cpu")), kind

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of pixels."""
        logits: Tensor = self.network(self._normalize(pixels).to(self._kind))
        return logits.float()


def _tried(make: Callable[[], Path]) -> Measurement[Path]:
    """The file, or why there is none: one that fails stops nothing."""
    try:
        return make()
    except ExportError as error:
        return NotMeasured(reason=str(error))
    except Exception as error:  # noqa: BLE001 - a compiler fails in any way
        return NotMeasured(reason=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
