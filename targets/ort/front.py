"""The image's constant channel, appended to eight pixels at once.

ONNX Runtime's Pad copies the three bytes of each pixel on their own: 4 % of a quantized network's time at 64 pixels,
8 % at 224. Eight neighbours are 24 channels of one pixel, without a copy; a 1x1 convolution to 32 channels, whose
weights are 1 and 0, copies them and puts 255 behind each three. The integers are the same, in an eighth of that time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rexnet_export.quantization.onnx.view import view
from rexnet_export.targets.ort.moves import APPENDING

PIXELS = 8
MOST_CHANNELS = 4  # an image's: products grow by their square, what a Pad copies does not
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def eight_at_once(model: onnx.ModelProto) -> onnx.ModelProto:
    """A QDQ graph of unsigned pixels [N, H, W, C] without its Pad of the image: the same logits, digit for digit.

    Images of more channels, or of a width that is no multiple of 8, keep it. The weights are INT8 where the network's
    are, which is the faster kernel: a sum of one product has room in 16 bits, so no processor loses any.
    """
    graph = view(model)
    pad = next(node for node in graph.nodes if node.op_type == "Pad" and node.input[0] in graph.inputs)
    _, _, width, channels = (axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim)
    if channels > MOST_CHANNELS or width % PIXELS:
        return model
    (transposed,) = graph.consumers[pad.output[0]]
    (pixels,) = graph.consumers[transposed.output[0]]
    _, scale, zero_point = pixels.input
    rows = PIXELS * (channels + 1)
    copies = np.kron(np.eye(PIXELS), np.eye(channels + 1, channels))[:, :, None, None]
    behind = np.append(np.zeros(channels), graph.constant(pad, 2))
    signed = any(values.dtype == np.int8 for values in graph.constants.values())
    integers = np.int8 if signed else np.uint8
    name = f"{pad.name}{APPENDING}"
    constants = {
        f"{name}.weight.q": copies.astype(integers),
        f"{name}.weight.q.scale": np.ones(rows, np.float32),
        f"{name}.weight.q.zero_point": np.zeros(rows, integers),
        f"{name}.bias.q": np.tile(behind, PIXELS).astype(np.int32),
        f"{name}.bias.q.scale": np.full(rows, graph.constants[scale], np.float32),
        f"{name}.bias.q.zero_point": np.zeros(rows, np.int32),
        f"{name}.together": np.array([0, 0, width // PIXELS, PIXELS * channels]),
        f"{name}.apart": np.array([0, 0, width, channels + 1]),
    }
    weight, *weight_grid, bias, bias_scale, bias_zero, together, apart = constants
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Reshape", [pad.input[0], together], "image", {}),
        ("Transpose", [f"{name}.image"], "nchw", {"perm": TO_NCHW}),
        ("DequantizeLinear", [f"{name}.nchw", scale, zero_point], "dq", {}),
        ("DequantizeLinear", [weight, *weight_grid], "weight.dq", {"axis": 0}),
        ("DequantizeLinear", [bias, bias_scale, bias_zero], "bias.dq", {"axis": 0}),
        ("Conv", [f"{name}.dq", f"{name}.weight.dq", f"{name}.bias.dq"], "conv", {"kernel_shape": (1, 1)}),
        ("QuantizeLinear", [f"{name}.conv", scale, zero_point], "q", {}),
        ("Transpose", [f"{name}.q"], "nhwc", {"perm": TO_NHWC}),
    ]
    nodes = [helper.make_node(op, read, [f"{name}.{made}"], f"{name}.{made}", **how) for op, read, made, how in steps]
    nodes.append(helper.make_node("Reshape", [nodes[-1].output[0], apart], [pad.output[0]], pad.name))
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:], changed.graph.initializer[:], changed.graph.value_info[:]
    changed.graph.node.extend(new for node in graph.nodes for new in (nodes if node is pad else [node]))
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in pad.input]
    changed.graph.initializer.extend([*kept, *(numpy_helper.from_array(v, key) for key, v in constants.items())])
    changed = onnx.shape_inference.infer_shapes(changed, check_type=True, strict_mode=True)
    onnx.checker.check_model(changed, full_check=True)
    return changed
