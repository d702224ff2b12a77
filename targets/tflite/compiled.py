"""`.tflite` files that LiteRT has compiled for an NPU: what of the network the chip's own program holds.

Each partition is one custom operator whose option names a program of the vendor, stored behind the flatbuffer; what
the vendor's compiler did not take stays as operators that the processor runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rexnet_export.pipeline.artifact.metadata import card_from
from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.targets.tflite.flatbuffer import Graph
from rexnet_export.targets.tflite.metadata import read_description, with_labels

STAMP_ENTRY = "LiteRtStamp"
DISPATCH, CUSTOM = b"DISPATCH_OP", "CUSTOM"
LONGEST_NAME = 64


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """For which chip a file is, and how it was cut: `left` are the operators outside the partitions, by kind."""

    vendor: str
    chip: str
    partitions: int
    left: Mapping[str, int]

    @property
    def named(self) -> str:
        """Vendor and chip."""
        return f"{self.vendor} {self.chip}"


def compiled_for(graph: Graph) -> Compiled | None:
    """What a compiled file says of itself; None of a portable one, `ConversionError` of a half one."""
    stamp = graph.metadata(STAMP_ENTRY)
    kinds = Counter("" if _is_dispatch(graph, index) else graph.kind(o) for index, o in enumerate(graph.operators))
    partitions = kinds.pop("", 0)
    if stamp is None and not partitions:
        return None
    # Two names of characters, each filled up with zeros to a fixed length.
    names = [part.decode("ascii", "replace") for part in (stamp or b"").split(b"\0") if part]
    if len(names) != 2 or max(map(len, names)) > LONGEST_NAME or not all(map(str.isprintable, names)):
        raise ConversionError("the file has programs for an NPU, but does not say for which; compile it again")
    vendor, chip = names
    return Compiled(vendor=vendor, chip=chip, partitions=partitions, left=dict(kinds))


def _is_dispatch(graph: Graph, index: int) -> bool:
    operator = graph.operators[index]
    code = graph.model.operatorCodes[operator.opcodeIndex]
    return graph.kind(operator) == CUSTOM and code.customCode == DISPATCH


def portable(graph: Graph) -> Graph:
    """The graph itself; `ConversionError` of a file that only one chip can run."""
    if (compiled := compiled_for(graph)) is not None:
        raise ConversionError(
            f"it is compiled for {compiled.named}, which alone can run it; take the file it was compiled from"
        )
    return graph


def with_its_labels(graph: Graph, content: bytes) -> bytes:
    """A compiled file with the label file behind it again: LiteRT's compiler leaves out what follows the flatbuffer.

    Programs are found by their distance from the file's start, which stays.
    """
    return with_labels(content, card_from(read_description(graph)))


def require_same_ends(source: Graph, graph: Graph) -> None:
    """`ConversionError` unless input, outputs and our own description are those of the file it was compiled from."""
    for what, before, after in (
        ("input", _ends(source, "inputs"), _ends(graph, "inputs")),
        ("outputs", _ends(source, "outputs"), _ends(graph, "outputs")),
        ("signature", _signature(source), _signature(graph)),
        ("metadata", read_description(source), read_description(graph)),
    ):
        if before != after:
            raise ConversionError(f"the compiler changed the {what}: it was {before}, it is {after}")


def _ends(graph: Graph, which: str) -> list[tuple[object, ...]]:
    return [
        (graph.name(i), graph.type(i), graph.shape(i), graph.quantization(i)) for i in getattr(graph.subgraph, which)
    ]


def _signature(graph: Graph) -> list[tuple[object, ...]]:
    return [
        (s.signatureKey, *(sorted((e.name, graph.name(e.tensorIndex)) for e in each) for each in (s.inputs, s.outputs)))
        for s in graph.model.signatureDefs or ()
    ]
