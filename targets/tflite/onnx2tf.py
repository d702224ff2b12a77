"""Running onnx2tf, and asking it in such a way that what it writes has channels last throughout."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.machine import child
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph

TIMEOUT_S = 600
NHWC = (0, 2, 3, 1)


def lowered(core: onnx.ModelProto) -> Graph:
    """The float TFLite graph of a graph without its image front, with its outputs, feature maps as NHWC."""
    with tempfile.TemporaryDirectory(prefix="rexnet-export-") as folder:
        written = Path(folder) / "written.tflite"
        written.write_bytes(_converted(_for_onnx2tf(core).SerializeToString(deterministic=True)))
        graph = read_graph(written)
    _maps_put_out(graph, [_is_map(value) for value in core.graph.output])
    return graph


@lru_cache(maxsize=1)
def _converted(model: bytes) -> bytes:
    """What onnx2tf writes; the INT8 file and the float file that is timed beside it are made of the same graph."""
    with tempfile.TemporaryDirectory(prefix="rexnet-export-") as folder:
        return run_onnx2tf(onnx.load_from_string(model), Path(folder)).read_bytes()


def _for_onnx2tf(core: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with pooling and flattening written channels-last: otherwise onnx2tf leaves a TRANSPOSE there.

    Feature maps that leave the graph would all be turned to channels-first, so their means leave it in their place,
    which `_maps_put_out` undoes.
    """
    model = onnx.ModelProto()
    model.CopyFrom(core)
    nodes: list[onnx.NodeProto] = []
    for node in core.graph.node:
        (output,) = node.output
        if node.op_type == "GlobalAveragePool":
            last, mean = f"{output}.last", f"{output}.mean"
            nodes.append(helper.make_node("Transpose", [node.input[0]], [last], perm=NHWC))
            nodes.append(helper.make_node("ReduceMean", [last, "pool.axes"], [mean], keepdims=1))
            nodes.append(helper.make_node("Transpose", [mean], [output], perm=(0, 3, 1, 2)))
        elif node.op_type == "Flatten":
            nodes.append(helper.make_node("Transpose", [node.input[0]], [f"{output}.last"], perm=NHWC))
            nodes.append(helper.make_node("Flatten", [f"{output}.last"], [output], axis=1))
        else:
            nodes.append(node)
    for value in model.graph.output:
        if _is_map(value):
            last, mean = f"{value.name}.last", f"{value.name}.mean"
            nodes.append(helper.make_node("Transpose", [value.name], [last], perm=NHWC))
            nodes.append(helper.make_node("ReduceMean", [last, "pool.axes"], [mean], keepdims=0))
            channels = value.type.tensor_type.shape.dim[1].dim_value
            value.CopyFrom(helper.make_tensor_value_info(mean, onnx.TensorProto.FLOAT, [1, channels]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2], np.int64), "pool.axes"))
    return model


def _is_map(value: onnx.ValueInfoProto) -> bool:
    return len(value.type.tensor_type.shape.dim) == 4


def _maps_put_out(graph: Graph, is_map: Sequence[bool]) -> None:
    """Put out what those outputs are the mean of, and forget the means; in place."""
    means = {int(index) for index, wanted in zip(graph.subgraph.outputs, is_map, strict=True) if wanted}
    makers = {int(operator.outputs[0]): operator for operator in graph.operators}
    if wrong := [graph.kind(makers[index]) for index in means if graph.kind(makers[index]) != "MEAN"]:
        raise ConversionError(f"onnx2tf ends a feature map in {wrong[0]}, which was not asked for; report this model")
    ends = [int(makers[i].inputs[0]) if i in means else i for i in map(int, graph.subgraph.outputs)]
    graph.subgraph.outputs = np.asarray(ends, np.int32)
    graph.operators[:] = [operator for operator in graph.operators if int(operator.outputs[0]) not in means]


def run_onnx2tf(model: onnx.ModelProto, folder: Path) -> Path:
    """The float TFLite file that onnx2tf makes of a model, in `folder`.

    It runs in a process of its own: it prints, rewrites its input file, and ends the process on errors.
    """
    source, log = folder / "core.onnx", folder / "onnx2tf.log"
    onnx.save(model, source)
    command = child.command("onnx2tf", "-i", str(source), "-o", str(folder), "-n", "-tb", "flatbuffer_direct")
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise ConversionError(f"onnx2tf did not finish in {TIMEOUT_S} s; {_kept(log)}") from error
    written = folder / "core_float32.tflite"
    if code != 0 or not written.exists():
        raise ConversionError(f"onnx2tf ended with code {code} and wrote no model; {_kept(log)}")
    return written


def _kept(log: Path) -> str:
    with tempfile.NamedTemporaryFile(prefix="rexnet-export-onnx2tf-", suffix=".log", delete=False) as kept:
        kept.write(log.read_bytes())
    return f"its output is in {kept.name}"
