"""Whether this processor adds up what ONNX Runtime multiplies of UINT8 and INT8 as it is."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rexnet_export.pipeline.machine.onnx_session import open_session, session_options

VNNI = "VNNI"  # what a file says that its processor has to have
CHANNELS, PIXEL, WEIGHT = 64, 255, 127
EXACT = 200  # of the answer's grid, which the lost halves of sums are far below
OPSET, IR_VERSION = 18, 8


@cache
def saturates() -> bool:
    """Whether sums of products of UINT8 and INT8 are lost here, as on x86 with AVX2 or AVX-512 but without VNNI.

    There an instruction adds two products in 16 bits, where 2 * 255 * 127 has no room. Asked of ONNX Runtime's own
    kernels, by a convolution and a matrix product that would need it. `ConversionError` where it cannot be asked.
    """
    session = open_session(_probe().SerializeToString(), "the probe for VNNI", session_options())
    pixels = np.full((1, CHANNELS), PIXEL, np.uint8)
    answers = session.run(None, {"row": pixels, "image": pixels[:, :, None, None]})
    return any(np.abs(answer.astype(int) - EXACT).max() > 1 for answer in answers)


def _probe() -> onnx.ModelProto:
    """Both operators on the largest integers; every number of their answers is 200 if nothing is lost."""
    weights = np.full((CHANNELS, CHANNELS), WEIGHT, np.int8)
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "none": np.int8(0),
        "step": np.float32(CHANNELS * PIXEL * WEIGHT / EXACT),
        "matrix": weights,
        "kernel": weights[:, :, None, None],
    }
    grids = ["one", "none", "step", "zero"]
    nodes = [
        helper.make_node("QLinearMatMul", ["row", "one", "zero", "matrix", *grids], ["product"]),
        helper.make_node("QLinearConv", ["image", "one", "zero", "kernel", *grids], ["convolution"]),
    ]
    shapes = {"row": [1, CHANNELS], "image": [1, CHANNELS, 1, 1]}
    ends = {"product": shapes["row"], "convolution": shapes["image"]}
    graph = helper.make_graph(
        nodes,
        "saturation",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in ends.items()],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
