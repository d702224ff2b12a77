"""The weight file of an `.mlpackage`, checked against the program before coremltools' C++ reader sees it.

The layout is that of coremltools' MIL blob storage, version 2, little-endian: a header of 64 bytes, then for each value
64 bytes of metadata (magic number, element type, size and place of the data) and the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.pipeline.core.untrusted import MOST_ARTIFACT, read_untrusted

if TYPE_CHECKING:
    from coremltools.proto.MIL_pb2 import Block, Value
    from coremltools.proto.Model_pb2 import Model

FILE = "weight.bin"
_HEADER = Struct("<II56x")  # number of values, version
_METADATA = Struct("<IIQQ40x")  # magic number, element type, bytes, offset
_VERSION = 2
_MAGIC = 0xDEADBEEF
_TYPES = {  # code in the file, bits of an element; elements of less than a byte lie packed
    "FLOAT16": (1, 16),
    "FLOAT32": (2, 32),
    "UINT8": (3, 8),
    "INT8": (4, 8),
    "INT4": (8, 4),
    "UINT1": (9, 1),
    "UINT2": (10, 2),
    "UINT4": (11, 4),
    "UINT3": (12, 3),
    "UINT6": (13, 6),
}


def check_weights(package: Path, spec: Model, weights: Path) -> None:
    """Every value the program keeps in `weights` lies inside the file, in the type and size the program declares."""
    stored = list(_stored_values(spec))
    if not stored:
        return
    content = read_untrusted(weights, MOST_ARTIFACT, inside=package)
    if len(content) < _HEADER.size or _HEADER.unpack_from(content)[1] != _VERSION:
        raise ConversionError(f"{package}: {FILE} is no weight file of version {_VERSION}; export it again")
    for name, value in stored:
        fault = _fault(content, value)
        if fault:
            raise ConversionError(f"{package}: {name} in {FILE} {fault}; export it again")


def _fault(content: bytes, value: Value) -> str | None:
    from coremltools.proto.MIL_pb2 import DataType  # noqa: PLC0415

    file, declared = value.blobFileValue, value.type.tensorType
    if Path(file.fileName).name != FILE:
        return f"is said to be in {file.fileName}"
    if file.offset + _METADATA.size > len(content):
        return f"starts at byte {file.offset}, beyond its end at {len(content)}"
    magic, code, size, offset = _METADATA.unpack_from(content, file.offset)
    if magic != _MAGIC:
        return f"is not at byte {file.offset}"
    if offset + size > len(content):
        return f"ends at byte {offset + size}, beyond its end at {len(content)}"
    kind, shape = DataType.Name(declared.dataType), [dimension.constant.size for dimension in declared.dimensions]
    expected, bits = _TYPES.get(kind, (None, 0))
    if (code, size) != (expected, -(-prod(shape) * bits // 8)):
        return f"has {size} bytes of type {code}, which is not {kind} {shape}"
    return None


def _stored_values(spec: Model) -> Iterator[tuple[str, Value]]:
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from _stored_in(block)


def _stored_in(block: Block) -> Iterator[tuple[str, Value]]:
    for op in block.operations:
        bound = (binding.value for argument in op.inputs.values() for binding in argument.arguments)
        for value in (*op.attributes.values(), *bound):
            if value.WhichOneof("value") == "blobFileValue":
                yield op.outputs[0].name, value
        for inner in op.blocks:
            yield from _stored_in(inner)
