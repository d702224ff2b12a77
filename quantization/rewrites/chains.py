"""Tensors whose channels may be rescaled without changing the network: found by operators and consumers.

From a convolution's output on, Relu, Add, Pad and GlobalAveragePool keep a positive factor per channel. The
convolutions that read the result can take it back, and so can the gate that multiplies it. All tensors so connected
take the same factors: a chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from rexnet_export.quantization.onnx.view import GraphView, attributes_of

_PASSING = frozenset({"Relu", "Add", "Pad", "GlobalAveragePool"})
_CHANNEL_AXIS, _RANK = 1, 4


@dataclass(frozen=True, kw_only=True)
class Chain:
    """`tensors` in graph order and how many channels each has, the convolutions that make and that read them.

    `gates` are the products of a tensor with a sigmoid that nothing else reads. Channel c is the same channel in all
    tensors; narrower ones have the leading channels.
    """

    tensors: Mapping[str, int]
    producers: tuple[onnx.NodeProto, ...]
    consumers: tuple[onnx.NodeProto, ...]
    gates: tuple[onnx.NodeProto, ...] = ()

    @property
    def name(self) -> str:
        """Its widest tensor, the last of them: has every channel of the chain."""
        return max(reversed(list(self.tensors)), key=self.tensors.__getitem__)

    @property
    def channels(self) -> int:
        """Of the widest tensor."""
        return self.tensors[self.name]


def chains(graph: GraphView) -> tuple[Chain, ...]:
    """All chains of a graph, in the order of their first tensors.

    Residual chain (any number of blocks; fresh channels start at every Pad), the inside of squeeze-excitation, and
    what its gate multiplies:

        Conv a -> Conv ..., a -> Pad -+                   Conv s -> Relu -> Conv -> Sigmoid
                   Conv b ----------- Add -> Conv ...
                                                          Conv d -> GlobalAveragePool -> Conv s, d -> Mul by Sigmoid
    """
    connected = _connected(graph)
    found = (_chain(graph, members) for members in connected)
    return tuple(chain for chain in found if chain is not None)


def _connected(graph: GraphView) -> Iterator[tuple[str, ...]]:
    """Groups of tensors joined by operators that keep factors, in graph order, and every other activation alone."""
    group = {node.output[0]: [node.output[0]] for node in graph.nodes}
    for node in graph.nodes:
        if node.op_type in _PASSING:
            for name in _activations(node):
                merged, other = group[node.output[0]], group.get(name, [name])
                if merged is not other:
                    merged.extend(other)
                    group.update(dict.fromkeys(other, merged))
    order = {node.output[0]: position for position, node in enumerate(graph.nodes)}
    seen: set[int] = set()
    for name in order:
        if id(group[name]) not in seen:
            seen.add(id(group[name]))
            yield tuple(sorted(group[name], key=lambda member: order.get(member, -1)))


def _chain(graph: GraphView, members: tuple[str, ...]) -> Chain | None:
    """The chain of these tensors, or None where one of them cannot be rescaled."""
    makers = {node.output[0]: node for node in graph.nodes}
    widths: dict[str, int] = {}
    for name in members:
        node = makers.get(name)
        width = None if node is None or name in graph.outputs else _width(node, graph, widths)
        if width is None:
            return None
        widths[name] = width
    readers = {id(node): node for name in members for node in graph.consumers.get(name, ())}.values()
    gates = tuple(node for node in readers if _gate(node, graph, makers, widths))
    consumers = tuple(node for node in readers if node.op_type not in _PASSING and node not in gates)
    producers = tuple(makers[name] for name in members if makers[name].op_type == "Conv")
    if not consumers or not all(_may_change(node, graph) for node in (*producers, *consumers)):
        return None
    if not all(_reads_all(node, graph, widths) for node in consumers):
        return None
    return Chain(tensors=widths, producers=producers, consumers=consumers, gates=gates)


def gate_factor(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> str | None:
    """Of a product, the input that a sigmoid gives; None where it has none."""
    sigmoids = (name for name in node.input if name in makers and makers[name].op_type == "Sigmoid")
    return next(sigmoids, None) if node.op_type == "Mul" else None


def _gate(
    node: onnx.NodeProto, graph: GraphView, makers: Mapping[str, onnx.NodeProto], widths: Mapping[str, int]
) -> bool:
    """Whether a node multiplies one tensor of the chain by a sigmoid of as many channels, made for it alone."""
    gate = gate_factor(node, makers)
    if gate is None or gate in graph.outputs or len(graph.consumers[gate]) != 1:
        return False
    (other,) = (name for name in node.input if name != gate)
    excite = makers.get(makers[gate].input[0])
    if other not in widths or excite is None:
        return False
    return _width(excite, graph, {}) == widths[other]


def _width(node: onnx.NodeProto, graph: GraphView, known: Mapping[str, int]) -> int | None:
    """Channels of what a node gives; None for nodes that do not keep factors."""
    match node.op_type:
        case "Conv" if node.input[1] in graph.constants:
            return int(graph.constants[node.input[1]].shape[0])
        case "Relu" | "GlobalAveragePool":
            return known.get(node.input[0])
        case "Add" if known.get(node.input[0]) == known.get(node.input[1]):
            return known.get(node.input[0])
        case "Pad":
            return _padded(node, graph, known)
    return None


def _padded(node: onnx.NodeProto, graph: GraphView, known: Mapping[str, int]) -> int | None:
    """Width after zeros were added behind the channels; None for any other padding."""
    attributes = attributes_of(node)
    # Neither a value other than zero nor axes have a form here that keeps factors.
    plain = attributes.get("mode", b"constant") == b"constant" and not any(node.input[2:])
    if not plain or node.input[1] not in graph.constants:
        return None
    added = [int(count) for count in graph.constants[node.input[1]]]
    behind = _RANK + _CHANNEL_AXIS
    if len(added) != 2 * _RANK or any(count for end, count in enumerate(added) if end != behind) or added[behind] < 0:
        return None
    return known[node.input[0]] + added[behind]


def _activations(node: onnx.NodeProto) -> list[str]:
    return list(node.input[: 2 if node.op_type == "Add" else 1])


def _may_change(node: onnx.NodeProto, graph: GraphView) -> bool:
    """Whether it is a convolution whose parameters are constants of its own."""
    return node.op_type == "Conv" and all(
        name in graph.constants and len(graph.consumers[name]) == 1 for name in node.input[1:]
    )


def _reads_all(node: onnx.NodeProto, graph: GraphView, widths: Mapping[str, int]) -> bool:
    """Whether every output reads every channel, so that a channel is a column of the weights (no groups)."""
    return widths.get(node.input[0]) == graph.constants[node.input[1]].shape[1]
