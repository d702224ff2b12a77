"""The float graph without its image front, for converters that know no uint8 images: ncnn, MNN, TensorRT and others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.records import Preprocess, StoredFile, stored_file, write_whole
from rexnet_export.pipeline.graph.onnx_outputs import onnx_outputs
from rexnet_export.pipeline.graph.parity import TOLERANCE

INPUT = "pixels"
_FRONT = frozenset({"Pad", "Transpose", "DequantizeLinear"})


def write_plain_onnx(float_onnx: Path, preprocess: Preprocess, images: NDArray[np.uint8], path: Path) -> StoredFile:
    """Write the plain form of a float graph of ours, and hold it to that graph on uint8 images [n, H, W, C].

    `ConversionError` where an output differs by more than parity allows.
    """
    model = plain_graph(onnx.load(float_onnx), preprocess)
    write_whole(path, model.SerializeToString(deterministic=True))
    found = onnx_outputs(path)(normalised(images, preprocess))
    for name, expected in onnx_outputs(float_onnx)(images).items():
        off, largest = float(np.abs(found[name] - expected).max()), float(np.abs(expected).max())
        if not off <= TOLERANCE * largest:
            raise ConversionError(f"{path.name} is not {float_onnx.name}: {name} differ by {off:.3g}; report this")
    return stored_file(path)


def plain_graph(model: onnx.ModelProto, preprocess: Preprocess) -> onnx.ModelProto:
    """float32 `pixels` [batch, C, H, W], normalised as in training, to the outputs of a float graph of ours.

    The front makes [r, g, b, 255] / 256 of an image; the stem's weights on that are undone into weights on
    (pixel / 255 - mean) / std, of which the constant channel was the part of the mean.
    """
    graph = model.graph
    (image,) = graph.input
    height, width, channels = (dimension.dim_value for dimension in image.type.tensor_type.shape.dim[1:])
    front = [node for node in graph.node if node.op_type in _FRONT and node.name.startswith("input")]
    reads = front[-1].output[0]
    scale = next(numpy_helper.to_array(t) for t in graph.initializer if t.name == front[-1].input[1])
    nodes = [node for node in graph.node if node not in front]
    stem = next(node for node in nodes if node.input[0] == reads)
    std = np.array(preprocess.std, np.float64)[:, None, None]
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    weight = numpy_helper.to_array(constants[stem.input[1]]).astype(np.float64)[:, :channels]
    undone = (weight * std * 255 * float(scale)).astype(np.float32)
    constants[stem.input[1]] = numpy_helper.from_array(undone, stem.input[1])
    stem.input[0] = INPUT
    read = {name for node in nodes for name in node.input}
    del changed.graph.node[:], changed.graph.initializer[:], changed.graph.input[:], changed.graph.value_info[:]
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(tensor for name, tensor in constants.items() if name in read)
    changed.graph.input.append(
        helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", channels, height, width])
    )
    changed = onnx.shape_inference.infer_shapes(changed, check_type=True, strict_mode=True)
    onnx.checker.check_model(changed, full_check=True)
    return changed


def normalised(images: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    """uint8 [n, H, W, C] -> float32 [n, C, H, W], as the plain graph takes them."""
    mean, std = (np.array(values, np.float64) for values in (preprocess.mean, preprocess.std))
    real = (images / 255.0 - mean) / std
    return np.ascontiguousarray(real.transpose(0, 3, 1, 2), np.float32)
