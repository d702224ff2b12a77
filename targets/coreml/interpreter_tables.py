"""What a program does to each float16 number by itself, as a table of what becomes of all 65,536 of them.

Between two convolutions of an INT8 network lie a dozen operations that see one number at a time: quantize, dequantize,
sigmoid, the product of a number and its own sigmoid. From a result that is rounded to float16 on, what each of them
gives follows from that one number. The operations themselves fill the tables, so no bit differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from rexnet_export.targets.coreml.interpreter_operations import Kernel

_PATTERNS = 2**16
_AT_ONCE = 2**15  # numbers that are looked up at once: with the table they stay in the second cache


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation: what it computes from which results, and the results nobody reads after it.

    With `half` the result is rounded to float16; `pointwise` says that every number of it follows from those in its
    place alone. `reals` is there where the result is integers, and gives the numbers they stand for.
    """

    output: str
    kernel: Kernel
    arguments: tuple[str, ...]
    half: bool = False
    pointwise: bool = False
    reals: Kernel | None = None
    unused: tuple[str, ...] = ()

    def result(self, values: Mapping[str, Tensor]) -> Tensor:
        """The operation on what `values` has by name, float32."""
        result = self.kernel(*[values[name] for name in self.arguments])
        return result.half().float() if self.half else result


@dataclass(frozen=True, kw_only=True)
class _Function:
    """A result each of whose numbers follows from one of the float16 result `root`: `table` has it for all patterns."""

    root: str
    table: Tensor


def needed(steps: Sequence[Step], results: Set[str]) -> tuple[Step, ...]:
    """The steps that `results` need, each with the results of others that nobody needs after it."""
    wanted, kept = set(results), []
    for step in reversed(steps):
        if step.output in wanted:
            kept.append(replace(step, unused=tuple(sorted(set(step.arguments) - wanted))))
            wanted.update(step.arguments)
    return tuple(reversed(kept))


def tabulated(steps: Sequence[Step], constants: Mapping[str, Tensor], results: Set[str]) -> tuple[Step, ...]:
    """Steps that give the same `results`, most pointwise ones in tables; `constants` are the file's, by name."""
    functions: dict[str, _Function] = {}
    computed, read, halves = [], set(results), _halves()
    for step in steps:
        function = _function(step, functions, constants)
        if function is None:
            computed.append(step)
            read.update(step.arguments)
            function = _Function(root=step.output, table=halves) if step.half else None
        if function is not None:
            functions[step.output] = function
        for name in set(step.unused) - read:  # a table is a quarter of a megabyte, and most serve only the next one
            functions.pop(name, None)
    tables = {name: function for name, function in functions.items() if name in read}
    return needed([part for step in computed for part in _with_tables(step, tables)], results)


def _function(step: Step, functions: Mapping[str, _Function], constants: Mapping[str, Tensor]) -> _Function | None:
    """The step's result as a function of one float16 number, where it is that."""
    stored = {name: constants[name] for name in step.arguments if name in constants}
    read = [functions.get(name) for name in step.arguments if name not in stored]
    roots = {None if function is None else function.root for function in read}
    root = roots.pop() if len(roots) == 1 else None
    if root is None or not step.pointwise or any(value.numel() > 1 for value in stored.values()):
        return None
    tables = {name: functions[name].table for name in step.arguments if name not in stored}
    return _Function(root=root, table=step.result(tables | stored).reshape(-1))


def _with_tables(step: Step, functions: Mapping[str, _Function]) -> list[Step]:
    """A computed step, and behind it the tables that start from its result, which is handed on as it was computed."""
    found = {name: function for name, function in functions.items() if function.root == step.output}
    if not found:
        return [step]
    computed = Step(output=f"{step.output} as computed", kernel=step.kernel, arguments=step.arguments)
    return [computed, *(_table(name, step.output, function, computed.output) for name, function in found.items())]


def _table(name: str, root: str, function: _Function, computed: str) -> Step:
    if name == root:
        return Step(output=name, kernel=lambda real: real, arguments=(computed,), half=True)
    return Step(output=name, kernel=partial(looked_up, function.table), arguments=(computed,))


def looked_up(table: Tensor, real: Tensor) -> Tensor:
    """What `table` has for every number, which is rounded to float16; in the same order in memory."""
    found = torch.empty_like(real)
    if found.stride() != real.stride():  # it has gaps
        real = found.copy_(real)
    whole = (real.numel(),), (1,)  # in the order of memory, whatever that of the axes
    parts = (torch.split(each.as_strided(*whole), _AT_ONCE) for each in (real, found))
    for numbers, results in zip(*parts, strict=True):
        places = numbers.half().view(torch.uint16).to(torch.int32)
        torch.index_select(table, 0, places, out=results)
    return found


def _halves() -> Tensor:
    """All float16 numbers as float32, in the order of their patterns."""
    patterns = torch.arange(_PATTERNS, dtype=torch.int32).to(torch.uint16)
    return patterns.view(torch.float16).float()
