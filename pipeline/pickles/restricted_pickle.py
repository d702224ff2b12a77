"""Pickles read without unpickling: every instruction is carried out here, and none of them calls the file's code.

What comes out are dictionaries, lists, texts and numbers, and tensors that are still in their file. Names of classes
and functions are only names; what a file may *do* with one is in `pickle_values`' table, all else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from rexnet_export.pipeline.pickles.values import Named, Record, called, finish, instance

MOST_INSTRUCTIONS = 2_000_000  # a training checkpoint of a ReXNet has some fifty thousand
MOST_COPIED = 1 << 28  # bytes, so that what is written once cannot be copied for ever
BYTES_PER_ITEM = 64
PLAIN_KEYS = (str, int, float, bool, bytes, type(None), Named)

type Persistent = Callable[[object], object]


def load_pickle(stream: BinaryIO, persistent: Persistent) -> object:
    """The value of the pickle that starts at the stream's position, which is then just behind it.

    `persistent` gives what a storage's identification stands for. `PickleRefused` names the class or function that the
    file wants to use; any other exception is damage.
    """
    machine = _Machine(persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MOST_INSTRUCTIONS:
            raise ValueError(f"more than {MOST_INSTRUCTIONS:,} instructions")
        if opcode.name == "STOP":
            return machine.stack.pop()
        step = _STEPS.get(opcode.name)
        if step is not None:
            step(machine, argument)
        elif opcode.name in _CONSTANTS:
            machine.stack.append(_CONSTANTS[opcode.name])
        elif opcode.name in _LITERALS:
            machine.stack.append(argument)
        elif opcode.name not in _IGNORED:
            raise ValueError(f"instruction {opcode.name}")
    raise ValueError("no end")


class _Machine:
    """The stack and the memory of a pickle in progress."""

    def __init__(self, persistent: Persistent) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memory: dict[int, Any] = {}
        self.persistent = persistent
        self.copied = 0

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def put(self, index: object) -> None:
        self.memory[int(str(index))] = self.stack[-1]

    def get(self, index: object) -> None:
        self.stack.append(self.memory[int(str(index))])


def _mark(machine: _Machine, _: object) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []


def _pop(machine: _Machine, _: object) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.since_mark()


def _pop_mark(machine: _Machine, _: object) -> None:
    machine.since_mark()


def _tuple_of(count: int) -> Callable[[_Machine, object], None]:
    def step(machine: _Machine, _: object) -> None:
        items = [machine.stack.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return step


def _store(target: object, items: list[Any]) -> None:
    """Entries of a dictionary; a key that is no text or number is left out, for a nest of tuples hashes for ever."""
    if not isinstance(target, dict):
        raise ValueError("entries for what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, PLAIN_KEYS):
            target[key] = value


def _set_item(machine: _Machine, _: object) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _store(machine.stack[-1], [key, value])


def _set_items(machine: _Machine, _: object) -> None:
    items = machine.since_mark()
    _store(machine.stack[-1], items)


def _extend(target: object, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Record):  # a class of ours that stands for another may have been a list
        raise ValueError("items for what is no list")


def _append(machine: _Machine, _: object) -> None:
    item = machine.stack.pop()
    _extend(machine.stack[-1], [item])


def _appends(machine: _Machine, _: object) -> None:
    items = machine.since_mark()
    _extend(machine.stack[-1], items)


def _dict(machine: _Machine, _: object) -> None:
    items = machine.since_mark()
    machine.stack.append({})
    _store(machine.stack[-1], items)


def _global(machine: _Machine, argument: object) -> None:
    module, _, name = str(argument).partition(" ")
    machine.stack.append(Named(module, name))


def _stack_global(machine: _Machine, _: object) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a name that is no text")
    machine.stack.append(Named(module, name))


def _reduce(machine: _Machine, _: object) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    for each in arguments if isinstance(arguments, tuple) else ():
        size = 1 if isinstance(each, str | bytes) else BYTES_PER_ITEM
        machine.copied += size * len(each) if isinstance(each, str | bytes | list | tuple | dict) else 0
    if machine.copied > MOST_COPIED:
        raise ValueError(f"more than {MOST_COPIED:,} bytes of copies")
    machine.stack.append(called(function, arguments))


def _new(machine: _Machine, _: object) -> None:
    arguments, kind = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(instance(kind, arguments))


def _new_with_keywords(machine: _Machine, _: object) -> None:
    machine.stack.pop()
    _new(machine, None)


def _instance(machine: _Machine, argument: object) -> None:
    machine.since_mark()
    module, _, name = str(argument).partition(" ")
    machine.stack.append(instance(Named(module, name), ()))


def _object(machine: _Machine, _: object) -> None:
    kind, *_arguments = machine.since_mark()
    machine.stack.append(instance(kind, ()))


def _build(machine: _Machine, _: object) -> None:
    state = machine.stack.pop()
    finish(machine.stack[-1], state)


def _persistent(machine: _Machine, _: object) -> None:
    machine.stack.append(machine.persistent(machine.stack.pop()))


def _since_mark(make: Callable[[list[Any]], object]) -> Callable[[_Machine, object], None]:
    def step(machine: _Machine, _: object) -> None:
        items = machine.since_mark()
        machine.stack.append(make(items))

    return step


def _push(make: Callable[[], object]) -> Callable[[_Machine, object], None]:
    return lambda machine, _: machine.stack.append(make())


_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "EMPTY_TUPLE": _push(tuple),
    "EMPTY_LIST": _push(list),
    "EMPTY_DICT": _push(dict),
    "EMPTY_SET": _push(list),
    "TUPLE": _since_mark(tuple),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": _since_mark(list),
    "FROZENSET": _since_mark(list),
    "DICT": _dict,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _appends,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memory)),
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new,
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
_CONSTANTS: Mapping[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_IGNORED = frozenset({"PROTO", "FRAME"})
