"""What LiteRT handed to Qualcomm's compiler, compared with the file: scales, zero points, weights and biases.

The compiled program itself is the vendor's secret. LiteRT's plugin writes the graph that it built for it, as QNN's
JSON: tensors of the file are called `COUNT_litert_INDEX` there, weights are the second input of a node
`..._LiteRt_OpId_INDEX`, those of `Conv2d` transposed. QNN's offset is the zero point with its sign changed. The JSON
has no integers: they are of a second run, whose JSON must have the same graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from pydantic import ConfigDict

from rexnet_export.apps.export.npu.npu_json import ParametersJson
from rexnet_export.apps.export.npu.recorded import recorded_arrays
from rexnet_export.pipeline.core.errors import ConversionError, first_line
from rexnet_export.pipeline.core.json_record import JsonRecord
from rexnet_export.pipeline.core.records import Measurement, NotMeasured
from rexnet_export.pipeline.core.untrusted import read_untrusted
from rexnet_export.targets.tflite.flatbuffer import Graph

MOST_BYTES = 256 * 2**20
TENSOR = re.compile(r"\d+_litert_(\d{1,9})")
NODE = re.compile(r".*_LiteRt_OpId_(\d{1,9})")
WEIGHTED = frozenset({"Conv2d", "DepthWiseConv2d", "FullyConnected"})
INT8 = frozenset({"INT8", "UINT8"})


class _Part(JsonRecord):
    model_config = ConfigDict(extra="ignore", strict=False)


class _Step(_Part):
    scale: float
    offset: int


class _Steps(_Part):
    scale_offsets: tuple[_Step, ...]


class _Quantized(_Part):
    scale_offset: _Step | None = None
    axis_scale_offset: _Steps | None = None


class _Tensor(_Part):
    quant_params: _Quantized | None = None


class _Node(_Part):
    type: str
    input_names: tuple[str, ...]


class _Graph(_Part):
    nodes: dict[str, _Node]
    tensors: dict[str, _Tensor]


class _File(_Part):
    graph: _Graph


def compared(folder: Path, recorded: Path, graph: Graph) -> Measurement[ParametersJson]:
    """How many tensors of `graph` were handed over with the scale, zero point and integers that the file has.

    `folder` has the graph that was compiled, `recorded` what was recorded. `ConversionError` names the first tensor
    that is another.
    """
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        return NotMeasured(reason=f"the compiler wrote {len(found)} graphs, and numbers tensors anew in each")
    written = read_untrusted(found[0], MOST_BYTES)
    handed = _File.parse(written).graph
    pairs = dict(_pairs(handed, graph))
    for index, step in pairs.items():
        params = graph.quantization(index)
        steps = step.axis_scale_offset.scale_offsets if step.axis_scale_offset else (step.scale_offset,)
        given = [(np.float32(each.scale), -each.offset) for each in steps if each is not None]
        if params is None or given != list(zip(map(np.float32, params.scale), params.zero_point, strict=True)):
            raise ConversionError(f"{graph.name(index)} was handed to the compiler with another scale or zero point")
    constant = [index for index in pairs if graph.is_constant(index)]
    missing = {i for i in graph.indices() if graph.quantization(i) and graph.type(i) in INT8 and i not in pairs}
    same = _same_integers(written, recorded, handed, graph)
    if not isinstance(same, NotMeasured):
        missing |= {i for i in graph.indices() if graph.quantization(i) and graph.is_constant(i) and i not in same}
    return ParametersJson(
        activations=len(pairs) - len(constant),
        weights=len(constant),
        integers=same if isinstance(same, NotMeasured) else len(same),
        not_seen=tuple(sorted(map(graph.name, missing))),
    )


def _same_integers(written: bytes, recorded: Path, handed: _Graph, graph: Graph) -> Measurement[frozenset[int]]:
    """Weights and biases that were recorded as they are in the file, to the last integer."""
    arrays = recorded_arrays(recorded)
    if isinstance(arrays, NotMeasured):
        return arrays
    try:
        again = [_File.checked(read_untrusted(path, MOST_BYTES))["graph"] for path in recorded.glob("*.json")]
    except (OSError, ConversionError) as error:  # a second run that fails says nothing of what was compiled
        return NotMeasured(reason=f"the graph that QNN's recorder was handed cannot be read ({first_line(error)})")
    if again != [_File.checked(written)["graph"]]:
        return NotMeasured(reason="QNN's recorder was handed another graph than the compiler")
    transposed = {int(operator.inputs[1]) for operator in graph.operators if graph.kind(operator) == "CONV_2D"}
    same = set()
    for index, name in (*_direct(handed.tensors), *_weights(handed.nodes, graph)):
        if name in arrays and graph.is_constant(index) and graph.quantization(index):
            values = graph.values(index)
            if arrays[name] != (values.transpose(1, 2, 3, 0) if index in transposed else values).tobytes():
                raise ConversionError(f"{graph.name(index)} was handed to the compiler with other integers")
            same.add(index)
    return frozenset(same)


def _pairs(handed: _Graph, graph: Graph) -> Iterator[tuple[int, _Quantized]]:
    """INT8 tensors of the file by their index; a bias has no parameters of its own there."""
    for index, name in (*_direct(handed.tensors), *_weights(handed.nodes, graph)):
        tensor = handed.tensors.get(name)
        if not 0 <= index < len(graph.subgraph.tensors):
            raise ConversionError(f"the compiler speaks of tensor {index}, which the file does not have")
        if tensor is not None and tensor.quant_params is not None and graph.type(index) in INT8:
            yield index, tensor.quant_params


def _direct(tensors: Mapping[str, _Tensor]) -> Iterator[tuple[int, str]]:
    for name in tensors:
        if match := TENSOR.fullmatch(name):
            yield int(match[1]), name


def _weights(nodes: Mapping[str, _Node], graph: Graph) -> Iterator[tuple[int, str]]:
    for name, node in nodes.items():
        match = NODE.fullmatch(name)
        if match and node.type in WEIGHTED and len(node.input_names) > 1:
            if int(match[1]) >= len(graph.operators):
                raise ConversionError(f"the compiler speaks of operator {match[1]}, which the file does not have")
            yield int(graph.operators[int(match[1])].inputs[1]), node.input_names[1]
