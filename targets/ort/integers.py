"""A network for VNNI in ONNX Runtime's operators on integers, where a QDQ graph says more than their kernels need.

DequantizeLinear has a zero point beside each channel's scale. Those of one weight are equal, and QLinearConv, which
else compares them whenever it runs, takes one for all.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rexnet_export.targets.ort.session import fused

ZERO_POINT = 5  # place of the weight's in a QLinearConv


def in_integers(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A QDQ graph without float layers as what it is fused to, a zero point for each convolution: the same logits.

    Each keeps its name: `session.x64quantprecision` moves a constant by 128, and refuses to do so twice.
    """
    changed = fused(model, name)
    domains = {node.domain for node in changed.graph.node}
    imports = [helper.make_opsetid(known.domain, known.version) for known in changed.opset_import]
    del changed.opset_import[:]  # it has all that this ONNX Runtime knows, which older ones do not
    changed.opset_import.extend(known for known in imports if known.domain in domains)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in changed.graph.initializer}
    for node in changed.graph.node:
        node.ClearField("doc_string")
        if node.op_type == "QLinearConv":
            (only,) = np.unique(constants[node.input[ZERO_POINT]])
            constants[node.input[ZERO_POINT]] = np.asarray(only)
    del changed.graph.initializer[:]
    changed.graph.initializer.extend(numpy_helper.from_array(constants[key], key) for key in sorted(constants))
    onnx.checker.check_model(changed, full_check=True)
    return changed
