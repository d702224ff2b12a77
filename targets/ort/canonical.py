"""The same `.ort` file for the same model: ONNX Runtime lays out one table in the order of a randomly seeded hash map.

That table (which types each operator's kernels take) is small and is written last, and flatbuffers grow from the
end of the file to its front. So everything else, the model, is the tail of the file and is kept byte for byte, and
the front is written again in the order of the names.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from rexnet_export.targets.ort.format import ALIGNMENT, IDENTIFIER, Table
from rexnet_export.targets.ort.schema import schema

MARGIN = 1 << 14  # bytes for the new front; the builder grows where that is too few

type Builder = Any  # flatbuffers and the schema's Python classes come without types


def canonical(content: bytes) -> bytes:
    """Rewrite a `.ort` file that ONNX Runtime has just written; the model in it is untouched."""
    flatbuffers = importlib.import_module("flatbuffers")
    session = schema("InferenceSession")
    old = session.InferenceSession.GetRootAs(bytearray(content), 0)
    model = old.Model()._tab
    start = min(model.Pos, model.Pos - model.Get(flatbuffers.number_types.SOffsetTFlags, model.Pos))
    builder = flatbuffers.Builder(len(content) - start + MARGIN)
    builder.head -= len(content) - start
    builder.Bytes[builder.head :] = content[start:]
    builder.minalign = ALIGNMENT
    resolver = _resolver(builder, old.KernelTypeStrResolver())
    version = builder.CreateString(old.OrtVersion())
    session.InferenceSessionStart(builder)
    session.InferenceSessionAddOrtVersion(builder, version)
    session.InferenceSessionAddModel(builder, len(content) - model.Pos)
    session.InferenceSessionAddKernelTypeStrResolver(builder, resolver)
    builder.Finish(session.InferenceSessionEnd(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _resolver(builder: Builder, old: Table) -> int:
    table = schema("KernelTypeStrResolver")
    operators = [old.OpKernelTypeStrArgs(i) for i in range(old.OpKernelTypeStrArgsLength())]
    entries = [_operator(builder, operator) for operator in sorted(operators, key=lambda entry: entry.OpId())]
    vector = _vector(builder, table.KernelTypeStrResolverStartOpKernelTypeStrArgsVector, entries)
    table.KernelTypeStrResolverStart(builder)
    table.KernelTypeStrResolverAddOpKernelTypeStrArgs(builder, vector)
    return int(table.KernelTypeStrResolverEnd(builder))


def _operator(builder: Builder, old: Table) -> int:
    table = schema("OpIdKernelTypeStrArgsEntry")
    types = [old.KernelTypeStrArgs(i) for i in range(old.KernelTypeStrArgsLength())]
    entries = [_type(builder, entry) for entry in sorted(types, key=lambda entry: entry.KernelTypeStr())]
    vector = _vector(builder, table.OpIdKernelTypeStrArgsEntryStartKernelTypeStrArgsVector, entries)
    name = builder.CreateString(old.OpId())
    table.OpIdKernelTypeStrArgsEntryStart(builder)
    table.OpIdKernelTypeStrArgsEntryAddOpId(builder, name)
    table.OpIdKernelTypeStrArgsEntryAddKernelTypeStrArgs(builder, vector)
    return int(table.OpIdKernelTypeStrArgsEntryEnd(builder))


def _type(builder: Builder, old: Table) -> int:
    table = schema("KernelTypeStrArgsEntry")
    entries = [_argument(builder, old.Args(i)) for i in range(old.ArgsLength())]
    vector = _vector(builder, table.KernelTypeStrArgsEntryStartArgsVector, entries)
    name = builder.CreateString(old.KernelTypeStr())
    table.KernelTypeStrArgsEntryStart(builder)
    table.KernelTypeStrArgsEntryAddKernelTypeStr(builder, name)
    table.KernelTypeStrArgsEntryAddArgs(builder, vector)
    return int(table.KernelTypeStrArgsEntryEnd(builder))


def _argument(builder: Builder, old: Table) -> int:
    table = schema("ArgTypeAndIndex")
    table.ArgTypeAndIndexStart(builder)
    table.ArgTypeAndIndexAddArgType(builder, old.ArgType())
    table.ArgTypeAndIndexAddIndex(builder, old.Index())
    return int(table.ArgTypeAndIndexEnd(builder))


def _vector(builder: Builder, start: Callable[[Builder, int], int], offsets: Sequence[int]) -> int:
    start(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
