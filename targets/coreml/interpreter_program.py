"""A saved ML program made ready: which operations to run in which order, and what they read from the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rexnet_export.pipeline.core.errors import ConversionError
from rexnet_export.targets.coreml.interpreter_operations import (
    OPERATIONS,
    RANGES,
    arguments,
    constant,
    is_constant,
    is_pointwise,
    reals_of,
)
from rexnet_export.targets.coreml.interpreter_tables import Step, needed, tabulated
from rexnet_export.targets.coreml.package import Package, is_stored, type_name

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Var

CLASSIFIER = "classify"  # gives a string and a dictionary; who wants them makes them of the probabilities

type Arithmetic = Literal["program", "float32"]


class MilProgram:
    """The operations of a package that `results` (names of MIL variables) need.

    Arithmetic "program" follows the types the program declares: each float16 result is rounded to float16, as it is
    in Core ML's float16 compute. "float32" rounds nothing to float16, weights included.
    """

    def __init__(self, package: Package, results: Set[str], *, arithmetic: Arithmetic) -> None:
        operations = _computed(package, results)
        sources = _sources(operations)
        steps = [_step(op, sources.get(op.outputs[0].name), arithmetic) for op in operations]
        self._results = frozenset(results)
        self._constants = _constants(operations, arithmetic)
        self._steps = needed(steps, results)
        self._quicker = tabulated(self._steps, self._constants, results)

    def execute(self, inputs: Mapping[str, Tensor]) -> Iterator[tuple[Step, Tensor]]:
        """Each operation and its float32 result, in program order; the first axis of every tensor is the batch."""
        return self._executed(self._steps, inputs)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The results alone, by name: the same bits in a fraction of the time."""
        found = self._executed(self._quicker, inputs)
        return {step.output: result for step, result in found if step.output in self._results}

    def _executed(self, steps: Sequence[Step], inputs: Mapping[str, Tensor]) -> Iterator[tuple[Step, Tensor]]:
        values = {**self._constants, **inputs}
        for step in steps:
            values[step.output] = step.result(values)
            yield step, values[step.output]
            for name in step.unused:
                del values[name]


def _computed(package: Package, results: Set[str]) -> list[Operation]:
    """The operations that compute tensors, all of them known, the wanted ones among them."""
    operations = [op for op in package.operations if op.op_type != CLASSIFIER and not is_stored(op)]
    for op in operations:
        if op.op_type not in OPERATIONS:
            raise ConversionError(f"{package.path}: the interpreter has no {op.op_type} ({op.outputs[0].name})")
    missing = results - {op.outputs[0].name for op in operations}
    if missing:
        raise ConversionError(f"{package.path} computes no {', '.join(sorted(missing))}; export it again")
    return operations


def _sources(operations: list[Operation]) -> dict[str, Operation]:
    """By name of each variable of integers: the `quantize` that made them, also where they were only moved since."""
    sources: dict[str, Operation] = {}
    for op in operations:
        output = op.outputs[0]
        if type_name(output) in RANGES:
            sources[output.name] = op if op.op_type == "quantize" else sources[arguments(op)[0].name]
    return sources


def _step(op: Operation, source: Operation | None, arithmetic: Arithmetic) -> Step:
    output = op.outputs[0]
    return Step(
        output=output.name,
        kernel=OPERATIONS[op.op_type](op),
        arguments=tuple(var.name for var in arguments(op)),
        half=_rounds(output, arithmetic),
        pointwise=is_pointwise(op),
        reals=None if source is None else reals_of(source, output.rank),
    )


def _constants(operations: list[Operation], arithmetic: Arithmetic) -> dict[str, Tensor]:
    """The data inputs that are stored, by name; weights of convolutions with channels last in memory, as images are."""
    stored = {var.name: var for op in operations for var in arguments(op) if is_constant(var)}
    constants = {}
    for name, var in stored.items():
        value = constant(var)
        value = value.half().float() if _rounds(var, arithmetic) else value
        constants[name] = value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
    return constants


def _rounds(var: Var, arithmetic: Arithmetic) -> bool:
    return arithmetic == "program" and type_name(var) == "fp16"
