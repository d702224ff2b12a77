"""Which tensors of the table have no grid of their own in a file: the insides of a SiLU, and what only moves numbers.

    conv -+- Sigmoid -+
          +-----------+- Multiply - grid - Pad

OpenVINO's plugin computes a whole SiLU inside the convolution as long as no grid stands between, and in a piece of its
own for each grid that does. What is moved is on the grid that it comes from. The rule is written twice, for the graph
that is lowered and for a file: an export ends with an error where they do not find the same tensors.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import permutations

import onnx

from rexnet_export.quantization.onnx.view import GraphView
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.table import QuantTable
from rexnet_export.targets.openvino.ir import PRODUCTS, Graph, Layer

GRID = "FakeQuantize"
# What stands in front of a tensor of ONNX: the product without its bias, and real numbers before they are on a grid.
PRODUCT, REAL, SCALED = ".product", ".real", ".dq"
MOVES = frozenset({"Concat", "Pad", "Reshape"})
_MOVES_IN_ONNX = frozenset({"Concat", "Pad", "Flatten"})
_READERS_OF_SILU = ["mul", "sigmoid"]


def without_grid(graph: GraphView, table: QuantTable) -> frozenset[str]:
    """The tensors of a float ONNX graph that have parameters in the table and are lowered without a grid."""
    made = {node.output[0]: node for node in graph.nodes}
    params = {name: entry.params for name, entry in table.tensors.items()}
    moved = {name for name, node in made.items() if params.get(name) is not None and _moves(node, params)}
    silus = (_inside(node, made, graph) for name, node in made.items() if params.get(name) is not None)
    return frozenset(moved.union(*silus))


def _moves(node: onnx.NodeProto, params: dict[str, QuantParams | None]) -> bool:
    sources = node.input if node.op_type == "Concat" else node.input[:1]
    return node.op_type in _MOVES_IN_ONNX and all(params.get(name) == params[node.output[0]] for name in sources)


def _inside(product: onnx.NodeProto, made: dict[str, onnx.NodeProto], graph: GraphView) -> tuple[str, ...]:
    """What of a SiLU behind a convolution nothing else reads: the convolution's result and the sigmoid."""
    for source, gate in permutations(product.input) if product.op_type == "Mul" else ():
        readers = sorted(reader.op_type.lower() for reader in graph.consumers[source])
        if source not in made or gate not in made:
            continue  # a product by a constant
        if (
            made[gate].op_type == "Sigmoid"
            and made[gate].input[0] == source
            and made[source].op_type == "Conv"
            and readers == _READERS_OF_SILU
            and len(graph.consumers[gate]) == 1
            and graph.outputs.isdisjoint((source, gate))
        ):
            return source, gate
    return ()


def inside_silu(graph: Graph) -> dict[str, str]:
    """The tensors of a file that are inside a SiLU, and whose grid stands behind it, by ONNX name."""
    readers = readers_of(graph)
    found: dict[str, str] = {}
    for grid in graph.kinds(GRID):
        product = graph.layers[grid.inputs[0]]
        for source, gate in permutations(product.inputs) if product.kind == "Multiply" else ():
            sigmoid = graph.layers[gate]
            if (
                sigmoid.kind == "Sigmoid"
                and sigmoid.inputs[0] == source
                and _is_convolution(graph, graph.layers[source])
                and {reader.name for reader in readers[source]} == {sigmoid.name, product.name}
                and len(readers[gate]) == len(readers[product.name]) == 1
            ):
                found |= dict.fromkeys((source, gate), grid.name)
    return found


def _is_convolution(graph: Graph, layer: Layer) -> bool:
    return layer.kind == "Add" and graph.layers[layer.inputs[0]].kind in PRODUCTS - {"MatMul"}


def on_grids(graph: Graph) -> frozenset[str]:
    """The layers whose numbers are on a grid: grids, and what moves numbers of such."""
    found: set[str] = set()
    for layer in graph.layers.values():  # in a file of ours, each after what it reads
        if layer.kind == GRID or (layer.kind in MOVES and found.issuperset(computed(graph, layer))):
            found.add(layer.name)
    return frozenset(found)


def readers_of(graph: Graph) -> dict[str, list[Layer]]:
    """Who reads each layer."""
    readers: dict[str, list[Layer]] = defaultdict(list)
    for layer in graph.layers.values():
        for name in layer.inputs:
            readers[name].append(layer)
    return readers


def computed(graph: Graph, layer: Layer) -> list[str]:
    """The inputs of a layer that are no parameters."""
    count = {"Add": 2, "Multiply": 2, "Concat": None}.get(layer.kind, 1)
    return [name for name in layer.inputs[:count] if not _is_parameter(graph, name)]


def _is_parameter(graph: Graph, name: str) -> bool:
    return graph.layers[name].kind == "Const" or name.endswith((SCALED, f".bias{REAL}"))
