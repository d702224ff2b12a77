"""Every tensor of the float network: what the tensors of artifacts are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.core.images import require_images
from rexnet_export.pipeline.machine.onnx_session import open_session, session_options

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

IMAGE, LOGITS = "image", "logits"


@dataclass(frozen=True, kw_only=True)
class FloatTracer:
    """A float ONNX graph in ONNX Runtime, every float tensor an output; nothing is fused, so all of them exist.

    `inputs` names, for each tensor, the tensors it is computed from; constants and the image's integers aside.
    """

    session: InferenceSession
    executed_by: str
    name: str
    tensors: tuple[str, ...]
    inputs: Mapping[str, tuple[str, ...]]
    shape: tuple[int, int, int]
    timed: bool = False

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, S, S, 3] RGB -> float32 logits [N, classes]."""
        return np.concatenate([self._outputs([LOGITS], image)[0] for image in self._checked(images)])

    def trace(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """uint8 [N, S, S, 3] -> every tensor, [N, C, H, W] or [N, C], in graph order."""
        parts = [self._outputs(self.tensors, image) for image in self._checked(images)]
        return {name: np.concatenate(values) for name, *values in zip(self.tensors, *parts, strict=True)}

    def _outputs(self, names: tuple[str, ...] | list[str], image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        try:
            found: list[NDArray[np.float32]] = self.session.run(list(names), {IMAGE: image[None]})
        except Exception as error:
            raise ConversionError(f"{self.executed_by} stopped in {self.name}: {first_line(error)}") from error
        return found

    def _checked(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        require_images(images, self.shape)
        return np.ascontiguousarray(images)


def float_trace(onnx_path: Path) -> FloatTracer:
    """Open a float ONNX graph of ours with every float tensor as an output, fused ones included."""
    model = _loaded(onnx_path)
    floats = {value.name for value in (*model.graph.value_info, *model.graph.output) if _is_float(value)}
    nodes = [node for node in model.graph.node if node.output[0] in floats]
    names = tuple(node.output[0] for node in nodes)
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    (image,) = model.graph.input
    height, width, channels = (dimension.dim_value for dimension in image.type.tensor_type.shape.dim[1:])
    del model.graph.output[:]
    model.graph.output.extend(known[name] for name in names)
    return FloatTracer(
        session=open_session(model.SerializeToString(), onnx_path.name, session_options()),
        executed_by=f"ONNX Runtime {version('onnxruntime')}",
        name=onnx_path.name,
        tensors=names,
        inputs={node.output[0]: tuple(name for name in node.input if name in names) for node in nodes},
        shape=(height, width, channels),
    )


def _loaded(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    except Exception as error:  # the system's, protobuf's and onnx's own have no common base
        raise ConversionError(f"cannot read {path}: {first_line(error)}; export the model again") from error
    if [value.name for value in model.graph.input] != [IMAGE]:
        raise ConversionError(f"{path.name} does not take `{IMAGE}` alone; give a float graph that was exported here")
    return model


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)
