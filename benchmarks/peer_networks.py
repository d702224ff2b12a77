"""Networks of other families as this project writes graphs: timm's, random weights, ReLU6, BatchNorm folded."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rexnet_export.pipeline.core.outputs import LOGITS
from rexnet_export.pipeline.graph.body import Body, Weights
from rexnet_export.pipeline.graph.float_graph import IR_VERSION, OPSET
from rexnet_export.targets.tflite.match_onnx import CORE_INPUT

# Not `tf_efficientnet_lite0`: its padding is not symmetric, and so a node of its own.
TIMM: Mapping[str, str] = {"MobileNetV2": "mobilenetv2_100", "EfficientNet-Lite0": "efficientnet_lite0"}
CHANNELS = 4  # red, green, blue, and the constant channel of the image front


def core_of(name: str, classes: int, size: int) -> onnx.ModelProto:
    """A network of `TIMM` as a graph, float32 `input` [batch, 4, S, S] -> `logits` [batch, classes]."""
    import timm  # noqa: PLC0415 - a second that only this needs
    import torch  # noqa: PLC0415

    torch.manual_seed(0)
    return core_graph(timm.create_model(TIMM[name], in_chans=CHANNELS, num_classes=classes).eval(), classes, size)


def core_graph(network: nn.Module, classes: int, size: int) -> onnx.ModelProto:
    """Any EfficientNet of timm that has ReLU6, plain blocks and no squeeze-excitation."""
    body = Body(relu6_only=True)
    source = body.activation(_conv(body, "stem", CORE_INPUT, network.conv_stem, network.bn1))
    for number, block in enumerate(block for stage in network.blocks for block in stage):
        source = _block(body, f"blocks.{number}", source, block)
    source = body.activation(_conv(body, "penultimate", source, network.conv_head, network.bn2))
    body.node("Flatten", "flatten", [body.node("GlobalAveragePool", "pool", [source])], axis=1)
    weight, bias = (values.detach().double().numpy() for values in (network.classifier.weight, network.classifier.bias))
    body.node("Gemm", LOGITS, ["flatten", *body.parameters(LOGITS, weight, bias)], transB=1)
    graph = helper.make_graph(
        body.nodes,
        type(network).__name__,
        [helper.make_tensor_value_info(CORE_INPUT, TensorProto.FLOAT, ["batch", CHANNELS, size, size])],
        [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", classes])],
        body.initializers,
    )
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def _block(body: Body, name: str, source: str, block: nn.Module) -> str:
    """An inverted residual, or without expansion what timm calls a depthwise separable convolution."""
    inner = source
    if hasattr(block, "conv_pwl"):
        inner = body.activation(_conv(body, f"{name}.expand", inner, block.conv_pw, block.bn1))
        depthwise, project = (block.conv_dw, block.bn2), (block.conv_pwl, block.bn3)
    else:
        depthwise, project = (block.conv_dw, block.bn1), (block.conv_pw, block.bn2)
    inner = body.activation(_conv(body, f"{name}.depthwise", inner, *depthwise))
    inner = _conv(body, f"{name}.project", inner, *project)
    return body.node("Add", f"{name}.residual", [inner, source]) if block.has_skip else inner


def _conv(body: Body, name: str, source: str, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> str:
    folded = fuse_conv_bn_eval(conv.double(), norm.double())
    weight, bias = (_values(each) for each in (folded.weight, folded.bias))
    return body.conv(name, source, (weight, bias), conv)


def _values(tensor: nn.Parameter) -> Weights:
    values: Weights = tensor.detach().numpy()
    return values
