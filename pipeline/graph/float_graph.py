"""The float ONNX graph in its inference form, written node by node from the ReXNet module tree.

Every node is named after its one output tensor, and those names are the keys of the quantization table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import Tensor, nn

from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.core.errors import ConversionError, DataError, UsageError
from rexnet_export.pipeline.core.records import ModelCard, Preprocess, StoredFile, stored_file, write_whole
from rexnet_export.pipeline.graph.body import Body, Weights
from rexnet_export.pipeline.graph.heads import write_heads
from rexnet_export.pipeline.graph.outputs import cut
from rexnet_export.pipeline.model.conv_batchnorm import ConvBatchNorm
from rexnet_export.pipeline.model.head import Head
from rexnet_export.pipeline.model.rexnet import LinearBottleneck, ReXNet, SqueezeExcite

OPSET = 18
IR_VERSION = 8  # the one opset 18 came with; newer ones lock out older runtimes for nothing
SMALLEST, STEP = 32, 16  # pixels that every side is a multiple of
PIXEL_SCALE = 1 / 256  # a power of two: pixel * scale is exact even in float16
WHITE = 255


def write_float_onnx(network: ReXNet, card: ModelCard, path: Path) -> StoredFile:
    """Write the float graph of what the card's outputs need, with its metadata; `path` appears whole or not at all."""
    if not card.features and card.answers != network.spec.classes:
        raise DataError(
            f"{len(card.labels)} labels for {network.spec.classes} classes of {card.name}; "
            "give one label per class with --labels"
        )
    model = float_graph(network, card.preprocess)
    if card.features:
        model = cut(model, card.features)
    helper.set_model_props(model, describe(card, precision="fp32"))
    content = model.SerializeToString(deterministic=True)
    try:
        write_whole(path, content)
    except OSError as error:
        raise ConversionError(f"cannot write {path}: {error.strerror}; choose another --output") from error
    return stored_file(path)


def float_graph(network: ReXNet, preprocess: Preprocess) -> onnx.ModelProto:
    """uint8 `image` [batch, H, W, C] -> float32 `logits` [batch, classes], BatchNorm and normalisation folded in.

    Further heads are outputs behind the logits.
    """
    height, width = _checked(preprocess.shape)
    body = Body(relu6_only=network.spec.variant == "lite")
    pooled = _pooled(body, network.head, _features(body, network, _image(body, preprocess, network.stem)))
    outputs = write_heads(body, network.head, pooled)
    graph = helper.make_graph(
        body.nodes,
        network.spec.name,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", height, width, preprocess.channels])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", count]) for name, count in outputs.items()],
        body.initializers,
    )
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="rexnet-export",
    )
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def _checked(shape: tuple[int, int]) -> tuple[int, int]:
    """What the stem and the first blocks can halve evenly; odd sides below are rounded up, alike in every format."""
    for side in shape:
        if side < SMALLEST or side % STEP:
            below = side // STEP * STEP
            nearest = f"{below} or {below + STEP}" if below >= SMALLEST else f"{SMALLEST}"
            raise UsageError(f"image size {side} is not a multiple of {STEP} from {SMALLEST} on; use {nearest}")
    return shape


def _image(body: Body, preprocess: Preprocess, stem: ConvBatchNorm) -> str:
    pads = body.constant("input.constant_channel.pads", np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int64))
    white = body.constant("input.constant_channel.value", np.uint8(WHITE))
    body.node("Pad", "input.constant_channel", ["image", pads, white], mode="constant")
    body.node("Transpose", "input.nchw", ["input.constant_channel"], perm=[0, 3, 1, 2])
    scale = body.constant("input.scale", np.float32(PIXEL_SCALE))
    zero_point = body.constant("input.zero_point", np.uint8(0))
    source = body.node("DequantizeLinear", "input", ["input.nchw", scale, zero_point])
    return body.activation(body.conv("stem", source, _normalised(_folded(stem), preprocess), stem.conv))


def _normalised(folded: tuple[Weights, Weights], preprocess: Preprocess) -> tuple[Weights, Weights]:
    """Weights on [r, g, b, 255] / 256 that equal weights on ([r, g, b] / 255 - mean) / std, zero padding included."""
    weight, bias = folded
    step = 1 / (WHITE * PIXEL_SCALE)
    mean, std = (np.array(values, np.float64)[:, None, None] for values in (preprocess.mean, preprocess.std))
    with np.errstate(invalid="ignore", divide="ignore"):  # a zero std: refused by name when it is stored
        offset = -(weight * (mean / std)).sum(axis=1, keepdims=True)
        return np.concatenate([weight / std, offset], axis=1) * step, bias


def _folded(module: ConvBatchNorm) -> tuple[Weights, Weights]:
    return _fold(module.conv, module.bn)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Weights, Weights]:
    """BatchNorm in inference is y = (x - mean) * gamma / sqrt(var + eps) + beta: into weight and bias, in float64."""
    mean, variance = _float64(norm.running_mean), _float64(norm.running_var)
    bias = 0.0 if conv.bias is None else _float64(conv.bias)
    with np.errstate(invalid="ignore", divide="ignore"):  # a negative variance: refused by name when it is stored
        scale = _float64(norm.weight) / np.sqrt(variance + norm.eps)
    return _float64(conv.weight) * scale[:, None, None, None], (bias - mean) * scale + _float64(norm.bias)


def _float64(tensor: Tensor | None) -> Weights:
    if tensor is None:
        raise ConversionError("a BatchNorm without running statistics cannot be folded; export a trained network")
    values: Weights = tensor.detach().cpu().double().numpy()
    return values


def _features(body: Body, network: ReXNet, source: str) -> str:
    for index, module in enumerate(network.features):
        if isinstance(module, LinearBottleneck):
            source = _block(body, f"features.{index}", source, module)
        elif isinstance(module, ConvBatchNorm):
            source = body.activation(body.conv("penultimate", source, _folded(module), module.conv))
    return body.node("GlobalAveragePool", "pool", [source])


def _block(body: Body, name: str, source: str, block: LinearBottleneck) -> str:
    wide = source
    if block.block.expands:
        wide = body.activation(body.conv(f"{name}.expand", source, _folded(block.conv_exp), block.conv_exp.conv))
    wide = body.conv(f"{name}.depthwise", wide, _folded(block.conv_dw), block.conv_dw.conv)
    if block.block.squeeze:
        wide = _gated(body, name, wide, block.se)
    wide = body.relu6(f"{name}.relu6", wide)
    narrow = body.conv(f"{name}.project", wide, _folded(block.conv_pwl), block.conv_pwl.conv)
    if not block.block.residual:
        return narrow
    added = block.block.outputs - block.block.inputs
    if added:
        pads = body.constant(f"{name}.residual.pad.pads", np.array([0, 0, 0, 0, 0, added, 0, 0], np.int64))
        source = body.node("Pad", f"{name}.residual.pad", [source, pads], mode="constant")
    return body.node("Add", f"{name}.residual", [narrow, source])


def _gated(body: Body, name: str, wide: str, se: SqueezeExcite) -> str:
    pooled = body.node("GlobalAveragePool", f"{name}.pool", [wide])
    squeezed = body.conv(f"{name}.squeeze", pooled, _fold(se.fc1, se.bn), se.fc1)
    squeezed = body.node("Relu", f"{name}.squeeze.relu", [squeezed])
    excited = body.conv(f"{name}.excite", squeezed, (_float64(se.fc2.weight), _float64(se.fc2.bias)), se.fc2)
    gate = body.node("Sigmoid", f"{name}.gate", [excited])
    return body.node("Mul", f"{name}.gated", [wide, gate])


def _pooled(body: Body, head: Head, pooled: str) -> str:
    """What the heads read: the pooled features, in ReXNet-lite behind its neck."""
    if hasattr(head, "neck"):
        return body.relu6("neck.relu6", body.conv("neck", pooled, _folded(head.neck), head.neck.conv))
    return pooled
