"""Running a network piece by piece over many images, with only the tensors in memory that are still to be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from rexnet_export.pipeline.machine.onnx_session import exact_options, open_session
from rexnet_export.quantization.onnx.simulate import groups, threads

type Tensors = dict[str, NDArray[Any]]


class Walk:
    """A network that has been run up to its node `position` (not included).

    `held` has, for every group of images, the tensors that were computed so far and are read later on.
    """

    def __init__(self, model: onnx.ModelProto, images: NDArray[np.uint8]) -> None:
        self.model = onnx.shape_inference.infer_shapes(model)
        self.position = 0
        self._necks = necks(self.model)
        self._opened: dict[int, list[Runner]] = {}
        self.held: list[Tensors] = [{model.graph.input[0].name: group} for group in groups(images)]

    def advance(self, end: int) -> None:
        """Run the nodes before `end`; afterwards `held` has what they computed for later nodes."""
        if end == self.position:
            return
        computed = Runner(part(self.model, self.position, end))(self.held)
        needed = _read_from(self.model, end)
        self.held = [
            {name: value for name, value in (before | after).items() if name in needed}
            for before, after in zip(self.held, computed, strict=True)
        ]
        self.position = end

    def next_piece(self) -> onnx.ModelProto:
        """The next nodes, up to where a single tensor leads on, as a model of its own."""
        return part(self.model, self.position, self._neck)

    def finish(self, piece: onnx.ModelProto) -> Callable[[list[Tensors]], NDArray[np.float32]]:
        """The network's first output for held tensors, by what `next_piece` returned, changed or as it was.

        Where other outputs are computed later, it may be held already.
        """
        output = self.model.graph.output[0].name
        runners = [*([Runner(piece)] if piece.graph.node else []), *self._behind()]

        def finished(held: list[Tensors]) -> NDArray[np.float32]:
            for runner in runners:
                held = [before | after for before, after in zip(held, runner(held), strict=True)]
            return np.concatenate([group[output] for group in held])

        return finished

    @property
    def _neck(self) -> int:
        return next((neck for neck in self._necks if neck > self.position), len(self.model.graph.node))

    def _behind(self) -> list[Runner]:
        """What runs behind the next piece: opened once for all pieces that end in the same place."""
        neck, end = self._neck, len(self.model.graph.node)
        if neck not in self._opened:
            self._opened = {neck: [Runner(part(self.model, neck, end))] if neck < end else []}
        return self._opened[neck]


class Runner:
    """A part of a network, ready to run any number of times."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._session = open_session(model.SerializeToString(), "a part of the network", exact_options())
        self._sources, self._outputs = (
            [value.name for value in ends] for ends in (model.graph.input, model.graph.output)
        )

    def __call__(self, held: list[Tensors]) -> list[Tensors]:
        """The part's outputs for every group of images; what it does not read may be among the inputs."""
        with threads() as pool:
            return list(pool.map(self._run, held))

    def _run(self, group: Tensors) -> Tensors:
        inputs = {name: group[name] for name in self._sources}
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))


def part(model: onnx.ModelProto, first: int, end: int) -> onnx.ModelProto:
    """The nodes from `first` to before `end` as a model; its outputs are what later nodes read or the model gives.

    The model needs the types of its tensors, as `onnx.shape_inference` writes them.
    """
    graph = model.graph
    nodes = graph.node[first:end]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    types = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    computed = {name: None for node in nodes for name in node.output}
    read = {name: None for node in nodes for name in node.input if name and name not in computed}
    needed = _read_from(model, end)
    cut = helper.make_graph(
        nodes,
        graph.name,
        [types[name] for name in read if name not in constants],
        [types[name] for name in computed if name in needed],
        [constants[name] for name in read if name in constants],
    )
    return helper.make_model(cut, ir_version=model.ir_version, opset_imports=model.opset_import)


def necks(model: onnx.ModelProto) -> tuple[int, ...]:
    """The positions between nodes of which what comes before hands on a single tensor, in order."""
    nodes = model.graph.node
    made = {value.name: 0 for value in model.graph.input}
    made |= {name: index + 1 for index, node in enumerate(nodes) for name in node.output}
    read = {name: index for index, node in enumerate(nodes) for name in node.input if name in made}
    read |= {value.name: len(nodes) for value in model.graph.output}
    held = Counter(position for name, last in read.items() for position in range(made[name], last + 1))
    return tuple(position for position in range(1, len(nodes)) if held[position] == 1)


def _read_from(model: onnx.ModelProto, position: int) -> set[str]:
    """Names that the nodes from `position` on read, and the model's outputs."""
    read = {name for node in model.graph.node[position:] for name in node.input}
    return read | {value.name for value in model.graph.output}
