"""The image's constant channel in an INT8 file, appended to eight pixels at once.

Eight neighbours are 24 channels of one pixel; a 1x1 convolution to 32 channels, whose weights are 1 and 0, copies them
and puts 255 behind each three. LiteRT's PADV2 gives the same integers, pixel by pixel, and takes longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.quantization.table.params import QuantParams, for_bias
from rexnet_export.targets.tflite.flatbuffer import Graph, schema

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import OperatorT

AT_ONCE = 8
WHITE_VALUE = 255
MOST_CHANNELS = 4  # an image's: products grow by their square, what PADV2 copies does not
TOGETHER, APPENDED, APPENDING = ".together", ".appended", ".appending"


def fits(graph: Graph, pixels: int) -> bool:
    """Whether an image [N, H, W, C] can be read eight pixels at a time."""
    _, _, width, channels = graph.shape(pixels)
    return width % AT_ONCE == 0 and channels <= MOST_CHANNELS


def eight_at_once(graph: Graph, pixels: int, core: int) -> list[OperatorT]:
    """From INT8 `pixels` [N, H, W, C] to `core` [N, H, W, C + 1], whose last channel is 255 steps above its zero."""
    _, height, width, channels = graph.shape(pixels)
    params, name = graph.quantization(core), graph.name(core)
    assert params is not None
    rows = AT_ONCE * (channels + 1)
    grid = QuantParams(scale=(1.0,) * rows, zero_point=(0,) * rows, axis=0)
    weight = graph.add_constant(f"{name}{APPENDING}.weight", _copies(channels))
    bias = graph.add_constant(f"{name}{APPENDING}.bias", _behind(channels))
    graph.quantize(weight, grid, "INT8")
    graph.quantize(bias, for_bias(params, grid), "INT32")
    together = graph.add_tensor(f"{name}{TOGETHER}", "INT8", (1, height, width // AT_ONCE, AT_ONCE * channels))
    appended = graph.add_tensor(f"{name}{APPENDED}", "INT8", (1, height, width // AT_ONCE, rows))
    for index in (together, appended):
        graph.quantize(index, params, "INT8")
    convolution = graph.operator("CONV_2D", [together, weight, bias], appended, "Conv2DOptions")
    options: Any = convolution.builtinOptions
    options.padding = schema().Padding.VALID
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    return [_reshape(graph, pixels, together), convolution, _reshape(graph, appended, core)]


def _copies(channels: int) -> NDArray[np.int8]:
    return np.kron(np.eye(AT_ONCE), np.eye(channels + 1, channels)).astype(np.int8)[:, None, None]


def _behind(channels: int) -> NDArray[np.int32]:
    return np.tile(np.array([*[0] * channels, WHITE_VALUE], np.int32), AT_ONCE)


def _reshape(graph: Graph, source: int, result: int) -> OperatorT:
    """To the shape of `result`, for any number of images."""
    shape = np.array([-1, *graph.shape(result)[1:]], np.int32)
    constant = graph.add_constant(f"{graph.name(result)}.shape", shape)
    operator = graph.operator("RESHAPE", [source, constant], result, "ReshapeOptions")
    options: Any = operator.builtinOptions
    options.newShape = shape
    return operator


def only_appends(graph: Graph, operator: OperatorT) -> bool:
    """Whether it is such a convolution; `ConversionError` for one that changes what it is to copy."""
    if graph.kind(operator) != "CONV_2D" or not graph.name(operator.inputs[1]).endswith(f"{APPENDING}.weight"):
        return False
    source, weight, *bias = (int(index) for index in operator.inputs)
    channels = graph.shape(source)[-1] // AT_ONCE
    params, grid = graph.quantization(source), graph.quantization(weight)
    exact = (
        graph.shape(weight) == (AT_ONCE * (channels + 1), 1, 1, AT_ONCE * channels)
        and np.array_equal(graph.values(weight), _copies(channels))
        and [graph.values(index).tolist() for index in bias] == [_behind(channels).tolist()]
        and grid is not None
        and set(grid.scale) == {1.0}
        and params == graph.quantization(int(operator.outputs[0]))
    )
    if not exact:
        raise ConversionError(
            f"{graph.name(weight)}: the file changes pixels that it is to copy; export the model again"
        )
    return True
