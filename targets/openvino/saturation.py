"""Whether this processor adds up INT8 products as they are."""

from __future__ import annotations

from functools import cache

import numpy as np

from rexnet_export.targets.openvino.toolchain import core, runtime

CHANNELS, PIXEL, WEIGHT = 64, 255, 127

# OpenVINO's low-precision transformations off: it then computes the same numbers of the grid in float32.
IN_FLOAT = {"LP_TRANSFORMS_MODE": "NO"}


@cache
def saturates() -> bool:
    """Whether OpenVINO loses sums of INT8 products here, as it does on x86 with AVX2 or AVX-512 but without VNNI.

    There an instruction adds two products of uint8 and int8 in 16 bits, where 2 * 255 * 127 has no room. Asked of the
    plugin itself, by a convolution that would need it.
    """
    openvino = runtime()
    operators = openvino.opset13
    image = operators.parameter([1, CHANNELS, 1, 1], np.float32)
    grid = operators.fake_quantize(image, *(np.float32(end) for end in (0, PIXEL, 0, PIXEL)), PIXEL + 1)
    weights = operators.convert(operators.constant(np.full((1, CHANNELS, 1, 1), WEIGHT, np.int8)), np.float32)
    scaled = operators.multiply(weights, operators.constant(np.float32(1)))
    sums = operators.convolution(grid, scaled, [1, 1], [0, 0], [0, 0], [1, 1])
    model = openvino.Model([operators.result(sums)], [image], "saturation")
    compiled = core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
    (found,) = compiled.create_infer_request().infer({0: np.full((1, CHANNELS, 1, 1), PIXEL, np.float32)}).values()
    # What is not saturated may still be rounded: to bfloat16, where the processor has it.
    return bool(found.item() < 0.9 * CHANNELS * PIXEL * WEIGHT)
