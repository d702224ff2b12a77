"""An IR read without OpenVINO: layers, shapes and numbers of a folder that may come from anywhere.

Only what this exporter writes is known. Every size is held to what the files have before anything is made of it, so
that OpenVINO is given no file that this reader has not seen whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.untrusted import MOST_ARTIFACT, read_untrusted

MODEL, WEIGHTS = "model.xml", "model.bin"
SECTION = "rexnet_export"  # of `rt_info`: where a file speaks of itself
VERSION = "11"
MOST_MODEL = 2**26  # bytes of XML: the largest networks have some 3 MB, and labels and logits in it may be many
MOST_NUMBERS = 2**31  # of one tensor of one image
MOST_MARKS = 2**20  # of XML: elements take some twenty times the memory of their text
MOST_DIGITS, LONGEST_NAME, LONGEST_REASON = 12, 500, 200
TYPES = {"u8": np.uint8, "i8": np.int8, "i32": np.int32, "i64": np.int64, "f16": np.float16, "f32": np.float32}
PRODUCTS = frozenset({"Convolution", "GroupConvolution", "MatMul"})
CLAMPS = frozenset({"Clamp", "ReLU"})
# The layers of ours, and how many tensors each reads; None is any number.
KINDS: Mapping[str, int | None] = {
    **dict.fromkeys(("Parameter", "Const"), 0),
    **dict.fromkeys(("Result", "Convert", "Sigmoid", "SoftMax", *CLAMPS), 1),
    **dict.fromkeys(("Add", "Multiply", "ReduceMean", "Reshape", "Transpose", *PRODUCTS), 2),
    "Pad": 4,
    "FakeQuantize": 5,
    "Concat": None,
}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operation: what it reads, by name and in order, and the shape of what it makes; -1 is the batch."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    data: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Layers by name in file order, numbers of constants, and what the file says of itself."""

    layers: Mapping[str, Layer]
    constants: Mapping[str, NDArray[np.generic]]
    metadata: Mapping[str, str]
    model: bytes
    weights: bytes

    def kinds(self, *kinds: str) -> Iterator[Layer]:
        """The layers of these kinds."""
        return (layer for layer in self.layers.values() if layer.kind in kinds)

    def stored(self, name: str) -> str:
        """The constant that a weight, scale or bias is made of."""
        while self.layers[name].kind != "Const":
            layer = self.layers[name]
            if layer.kind not in {"Convert", "Multiply"}:
                raise ConversionError(f"{name} is computed, not stored")
            name = layer.inputs[0]
        return name


def read_ir(folder: Path) -> Graph:
    """Read a folder this exporter wrote; whatever is wrong with it is one `ConversionError`."""
    try:
        model = read_untrusted(folder / MODEL, MOST_MODEL, inside=folder)
        weights = read_untrusted(folder / WEIGHTS, MOST_ARTIFACT, inside=folder)
    except OSError as error:
        raise ConversionError(f"{folder} is no complete OpenVINO model ({error}); export it again") from error
    try:
        return _parsed(model, weights)
    except (ET.ParseError, KeyError, ValueError, IndexError, ConversionError) as error:
        reason = (f"has no {error}" if isinstance(error, KeyError) else f"cannot be read: {error}")[:LONGEST_REASON]
        raise ConversionError(f"{folder}: {MODEL} {reason}; it was damaged or not exported here") from error


@lru_cache(maxsize=2)  # an export reads its own file seven times
def _parsed(model: bytes, weights: bytes) -> Graph:
    if b"<!" in model or b"\0" in model:  # entities, with which a bomb is made; hidden by another encoding
        raise ConversionError("it has declarations or zeros, which ours have not")
    if model.count(b"<") > MOST_MARKS:
        raise ConversionError(f"it has more than {MOST_MARKS:,} elements")
    # As text, whatever encoding it names: in another one declarations would look otherwise.
    root = ET.fromstring(model.decode())  # noqa: S314 - no declarations, and not larger than MOST_MODEL
    if root.tag != "net" or root.get("version") != VERSION:
        raise ConversionError(f"it is {root.tag!r} version {root.get('version')}, not an IR of version {VERSION}")
    if any(len(root.findall(part)) != 1 for part in ("layers", "edges")):
        raise ConversionError("it has not one list of layers and one of edges")  # OpenVINO reads the first alone
    elements = {element.attrib["id"]: element for element in root.iterfind("layers/layer")}
    read: dict[str, dict[int, str]] = {identifier: {} for identifier in elements}
    places = {identifier: place for place, identifier in enumerate(elements)}
    for edge in root.iterfind("edges/edge"):
        source, reader = edge.attrib["from-layer"], edge.attrib["to-layer"]
        if places[source] >= places[reader]:
            raise ConversionError(f"layer {reader} reads {source}, which is not before it")
        read[reader][_number(edge.attrib["to-port"])] = elements[source].attrib["name"]
    layers = [_layer(element, read[identifier]) for identifier, element in elements.items()]
    named = {layer.name: layer for layer in layers}
    if len(named) != len(layers):
        raise ConversionError("two layers have one name")
    return Graph(
        layers=named,
        constants={layer.name: _constant(layer, weights) for layer in layers if layer.kind == "Const"},
        metadata={entry.tag: entry.attrib["value"] for entry in root.iterfind(f"rt_info/{SECTION}/*")},
        model=model,
        weights=weights,
    )


def _layer(element: ET.Element, read: Mapping[int, str]) -> Layer:
    name, kind = element.attrib["name"], element.attrib["type"]
    if kind not in KINDS or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ConversionError(f"layer {name[:60]!a} is a {kind[:60]!a}, which ours have not")
    if KINDS[kind] not in {None, len(read)}:
        raise ConversionError(f"layer {name[:60]} ({kind}) reads {len(read)} tensors, not {KINDS[kind]}")
    outputs = element.findall("output/port")
    dimensions = [dimension.text or "" for dimension in outputs[0].iterfind("dim")] if outputs else []
    shape = tuple(-1 if text == "-1" and not place else _number(text) for place, text in enumerate(dimensions))
    if prod(map(abs, shape)) > MOST_NUMBERS:
        raise ConversionError(f"layer {name} makes {shape}, more than {MOST_NUMBERS:,} numbers")
    data = element.find("data")
    return Layer(
        name=name,
        kind=kind,
        inputs=tuple(read[port] for port in sorted(read)),
        shape=shape,
        data={} if data is None else dict(data.attrib),
    )


def _constant(layer: Layer, weights: bytes) -> NDArray[np.generic]:
    """Numbers of a constant; what its attributes, its port and the file of numbers say must be the same."""
    dtype = np.dtype(TYPES[layer.data["element_type"]])
    offset, size = _number(layer.data["offset"]), _number(layer.data["size"])
    shape = tuple(_number(side.strip()) for side in layer.data["shape"].split(",") if side)
    count = prod(shape)
    if shape != layer.shape or size != count * dtype.itemsize or offset + size > len(weights):
        raise ConversionError(
            f"{layer.name} is {size} bytes at {offset} of {len(weights)} in {WEIGHTS}, no {dtype} {[*layer.shape]}"
        )
    return np.frombuffer(weights, dtype, count, offset).reshape(shape) if count else np.empty(shape, dtype)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise ConversionError(f"{text[:40]!a} is no number of elements or bytes")
    return int(text)
