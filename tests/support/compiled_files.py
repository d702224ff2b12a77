"""Small `.tflite` files, the same as LiteRT's compiler leaves them, and a stand-in for that program.

With its libraries it is 300 MB.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from rexnet_export.pipeline.artifact.metadata import describe
from rexnet_export.pipeline.core.outputs import LOGITS
from rexnet_export.pipeline.core.records import ModelCard, Preprocess
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.targets.tflite.flatbuffer import Graph, read_graph, schema
from rexnet_export.targets.tflite.metadata import entries, with_labels

SIDE, CHANNELS = 8, 4
LABELS = ("one", "two", "three", "four")
KINDS = ["QUANTIZE", "CONV_2D", "LOGISTIC", "MUL", "MEAN", "DEQUANTIZE"]
PROGRAM = b"a vendor's program"
STAMP_FIELD = 120
SAYS_VERSION = "print('Applying plugin with SDK version: v2.51.0')"


def portable_file(path: Path, *, stride: int = 1) -> Path:
    """An INT8 file of `KINDS`: a convolution, SiLU and pooling between uint8 pixels and float32 logits.

    With a `stride` of 0 the convolution is one that Qualcomm's plugin leaves out.
    """
    graph = _empty()
    image = _tensor(graph, "image", "UINT8", (1, SIDE, SIDE, 3), 1 / 256, 0)
    pixels = _tensor(graph, "input", "INT8", (1, SIDE, SIDE, 3), 1 / 256, -128)
    conv = _tensor(graph, "stem", "INT8", (1, SIDE, SIDE, CHANNELS), 0.0625, 3)
    gate = _tensor(graph, "stem.gate", "INT8", (1, SIDE, SIDE, CHANNELS), 1 / 256, -128)
    silu = _tensor(graph, "stem.silu", "INT8", (1, SIDE, SIDE, CHANNELS), 0.03125, -100)
    pooled = _tensor(graph, "logits.quantized", "INT8", (1, CHANNELS), 0.03125, -100)
    logits = graph.add_tensor(LOGITS, "FLOAT32", (1, CHANNELS))
    weights = graph.add_constant("stem.weight", np.arange(CHANNELS * 3, dtype=np.int8).reshape(CHANNELS, 1, 1, 3) - 5)
    scales = tuple(0.25 / (1 + channel) for channel in range(CHANNELS))
    graph.quantize(weights, QuantParams(scale=scales, zero_point=(0,) * CHANNELS, axis=0), "INT8")
    axes = graph.add_constant("axes", np.array([1, 2], np.int32))
    bias = graph.add_constant("stem.bias", np.arange(CHANNELS, dtype=np.int32) * 1_000 - 7)
    steps = tuple(scale / 256 for scale in scales)
    graph.quantize(bias, QuantParams(scale=steps, zero_point=(0,) * CHANNELS, axis=0, bits=32), "INT32")
    inputs = [[image], [pixels, weights, bias], [conv], [conv, gate], [silu, axes], [pooled]]
    options = ["QuantizeOptions", "Conv2DOptions", "", "MulOptions", "ReducerOptions", "DequantizeOptions"]
    outputs = (pixels, conv, gate, silu, pooled, logits)
    graph.operators[:] = [graph.operator(*each) for each in zip(KINDS, inputs, outputs, options, strict=True)]
    convolution = graph.operators[1].builtinOptions
    convolution.strideW = convolution.strideH = stride
    convolution.dilationWFactor = convolution.dilationHFactor = 1
    graph.set_signature({"image": image}, {LOGITS: logits})
    card = ModelCard(name="small", labels=LABELS, preprocess=Preprocess(size=SIDE), checkpoint_sha256="1" * 64)
    graph.set_metadata(entries(card, describe(card, precision="int8"), [LOGITS]))
    path.write_bytes(with_labels(graph.written(), card))
    return path


def _empty() -> Graph:
    model, subgraph = schema().ModelT(), schema().SubGraphT()
    subgraph.tensors, subgraph.operators, subgraph.name = [], [], "main"
    subgraph.inputs = subgraph.outputs = np.array([], np.int32)
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [subgraph], [], [schema().BufferT()]
    return Graph(model)


def _tensor(graph: Graph, name: str, kind: str, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
    index = graph.add_tensor(name, kind, shape)
    graph.quantize(index, QuantParams(scale=(scale,), zero_point=(zero_point,)), kind)
    return index


def compiled(source: Path, chip: str = "SM8650", vendor: str = "Qualcomm", *, outside: int = 0) -> bytes:
    """The file with one partition for all but its last `outside` operators, the program behind the flatbuffer."""
    graph = read_graph(source)
    cut = len(graph.operators) - outside
    taken, left = graph.operators[:cut], graph.operators[cut:]
    needed = {int(i) for o in left for i in o.inputs} | {int(i) for i in graph.subgraph.outputs}
    made = [int(i) for o in taken for i in o.outputs if int(i) in needed]
    graph.operators[:] = [dispatch(graph, [int(i) for i in graph.subgraph.inputs], made), *left]
    entries = {entry.name.decode(): graph.metadata(entry.name.decode()) or b"" for entry in graph.model.metadata}
    graph.set_metadata(entries | {"LiteRtStamp": stamp(vendor, chip)})
    return graph.written() + PROGRAM


def stamp(*names: str) -> bytes:
    return b"".join(name.encode().ljust(STAMP_FIELD, b"\0") for name in names)


def dispatch(graph: Graph, inputs: list[int], outputs: list[int]) -> Any:  # noqa: ANN401 - LiteRT's own, without types
    """The operator that stands for a partition."""
    code = schema().OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema().BuiltinOperator.CUSTOM
    code.customCode, code.version = "DISPATCH_OP", 1
    graph.model.operatorCodes.append(code)
    operator = schema().OperatorT()
    operator.opcodeIndex = len(graph.model.operatorCodes) - 1
    operator.inputs, operator.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
    return operator


def environment(folder: Path, body: str) -> Path:
    """A folder of packages whose compiler is a Python script: `body` sees `flags`, those it was given by name."""
    program = folder / "ai_edge_litert" / "tools" / "apply_plugin_main"
    program.parent.mkdir(parents=True)
    read = "flags = dict(word.removeprefix('--').split('=', 1) for word in sys.argv[1:])"
    program.write_text(f"#!{sys.executable}\nimport json, pathlib, sys, time\n{read}\n{body}\n")
    program.chmod(0o755)
    (folder / "ai_edge_litert-2.3.0.dist-info").mkdir()
    (folder / "onnxruntime_qnn").mkdir()
    (folder / "onnxruntime_qnn" / "libQnnHtp.so").touch()
    return folder


def compiler(tmp_path: Path, file: Path, *, outside: int = 0, more: str = "") -> Path:
    """An environment whose compiler writes what it was prepared to, for the chip it is asked for."""
    for chip in ("SM8650", "SM8750", "SA8295"):
        (tmp_path / f"{chip}.made").write_bytes(compiled(file, chip, outside=outside))
    made = f"pathlib.Path({str(tmp_path)!r}, flags['soc_model'] + '.made').read_bytes()"
    return environment(tmp_path / "packages", f"{SAYS_VERSION}\npathlib.Path(flags['o']).write_bytes({made})\n{more}")
