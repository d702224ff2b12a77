"""The least time that physics leaves a network on one thread of this processor: its products, and its bytes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx

SOURCE = Path(__file__).with_name("peaks.cpp")
BYTES: Mapping[str, int] = {"int8": 1, "bf16": 2, "float32": 4}  # of a number, by the names that tables print
CACHED, UNCACHED = 4 * 2**20, 2**28  # bytes that are read: about the INT8 weights, and more than any cache holds
KINDS: Mapping[str, tuple[str, ...]] = {
    **{numbers: (numbers,) for numbers in BYTES},
    "cache": ("read", str(CACHED)),
    "memory": ("read", str(UNCACHED)),
}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one image asks for: products, weights and biases, and numbers that layers with products read and write."""

    macs: int
    weights: int
    activations: int


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Milliseconds that an image takes at least: for its products alone, and for its bytes alone."""

    products_ms: float
    bytes_ms: float

    @property
    def ms(self) -> float:
        """Both can be done at once."""
        return max(self.products_ms, self.bytes_ms)


def compiled(folder: Path) -> Path:
    """`peaks.cpp` for this very processor, in `folder`; SystemExit without g++."""
    compiler = shutil.which("g++") or sys.exit("g++ is not installed: apt install g++")
    program = folder / "peaks"
    subprocess.run((compiler, "-O3", "-march=native", "-std=c++17", "-o", program, SOURCE), check=True)
    return program


def work_of(model: onnx.ModelProto) -> Work:
    """Of a float graph; what is no convolution and no matrix product has no products here."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    sizes = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes[value.name] = prod(side.dim_value or 1 for side in value.type.tensor_type.shape.dim)  # one image
    kernels = {tensor.name: tensor.dims for tensor in graph.initializer}
    macs = weights = activations = 0
    for node in graph.node:
        if node.op_type in {"Conv", "Gemm"}:
            source, kernel, *_ = node.input
            macs += sizes[node.output[0]] * prod(kernels[kernel][1:])
            weights += sum(sizes[name] for name in node.input[1:])
            activations += sizes[source] + sizes[node.output[0]]
    return Work(macs=macs, weights=weights, activations=activations)


def floor(work: Work, numbers: str, rates: Mapping[str, float]) -> Floor:
    """In numbers of a kind, by what was measured a second: products of `numbers`, and bytes of `cache`.

    Images come one after another, so weights lie in a cache where they fit.
    """
    size = BYTES[numbers] * (work.weights + work.activations)
    return Floor(products_ms=1e3 * work.macs / rates[numbers], bytes_ms=1e3 * size / rates["cache"])
