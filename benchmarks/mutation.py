"""Which small faults in the code the nearest tests notice: a sample of mutants, the score and the survivors.

    python benchmarks/mutation.py [--mutants 200] [--minutes 60] [--seed 0] [ROOM | FILE | FILE:LINE ...]

mutmut and cosmic-ray start Python anew for each mutant, and here an import of torch and onnx takes longer than the
tests of a module (mutmut also looks for the package below its own name, which it has not in this tree). So this
process imports the libraries and the modules once and forks: each child gets the changed module in place of the file,
forgets what has read it, and runs the module's mirror test, or those of its room where it has none.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import importlib
import importlib.util
import math
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "rexnet_export."
ROOMS = ("quantization", "apps/gate/accuracy", "apps/gate/baseline", "apps/gate/latency")
# Imported once; ours are what tests/conftest.py and tests/support read.
LIBRARIES = (
    *("torch._dynamo", "onnx", "onnxruntime", "scipy.optimize", "scipy.stats", "PIL"),
    *("hypothesis", "pydantic", "jsonschema", "junitparser", "rexnet_export.targets.tflite.onnx2tf"),
    *("rexnet_export.apps.export.command", "rexnet_export.apps.shared.trials.ray_cluster"),
)
PYTEST = ("-o", "addopts=--import-mode=importlib", "-x", "-q", "-m", "not slow", "--hypothesis-seed=0")
LEAST_S, TIMES = 20.0, 10.0  # a mutant may take this long, and so many times what the tests take without it
SWAPPED: Mapping[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Continue: ast.Break,
}
RENAMED = {"min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum", "maximum": "minimum"}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A changed module: `place` is the node's number in the walk, `before` and `after` the line that it changes."""

    file: str
    place: int
    line: int
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the tests said: "killed", "timeout" (noticed too) or "survived"."""

    mutant: Mutant
    state: str
    tests: str
    seconds: float


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Those that run and decide: no annotations, type aliases, documentation, messages, decorators or assertions."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.JoinedStr | ast.TypeAlias | ast.Raise | ast.Assert | ast.Import | ast.ImportFrom):
            continue
        if isinstance(child, ast.arg):
            continue
        if isinstance(child, ast.keyword) and child.arg == "strict":  # of zip: an assertion about lengths
            continue
        yield child
        if isinstance(child, ast.AnnAssign):
            parts: Sequence[ast.AST] = [child.value] if child.value else []
            yield from (node for part in parts for node in (part, *nodes(part)))
        elif isinstance(child, ast.FunctionDef | ast.ClassDef):
            holder = ast.Module(body=child.body, type_ignores=[])
            yield from nodes(holder)
            if isinstance(child, ast.FunctionDef):
                yield from (node for part in child.args.defaults for node in (part, *nodes(part)))
        else:
            yield from nodes(child)


def changed(node: ast.AST) -> bool:
    """Change the node itself, if it is of a kind that can be; the tree it belongs to is then a mutant."""
    match node:
        case ast.Compare(ops=[first, *_]) if type(first) in SWAPPED:
            node.ops[0] = SWAPPED[type(first)]()  # type: ignore[assignment]
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPPED:
            node.op = SWAPPED[type(op)]()  # type: ignore[assignment]
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
            node.operand = node.operand if isinstance(node.op, ast.UAdd) else ast.UnaryOp(ast.Not(), node.operand)
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() as value):
            node.value = value + 1
        case ast.Constant(value=float() as value):
            node.value = value * 2 or 1.0
        case ast.Name(id=name) if name in RENAMED:
            node.id = RENAMED[name]
        case ast.Attribute(attr=name) if name in RENAMED:
            node.attr = RENAMED[name]
        case _:
            return False
    return True


def mutated(file: str, place: int) -> tuple[ast.Module, ast.AST] | None:
    """The module with the node at that place changed, and the node; None where it cannot be."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    node = next(node for number, node in enumerate(nodes(tree)) if number == place)
    return (ast.fix_missing_locations(tree), node) if changed(node) else None


def mutants(file: str) -> Iterator[Mutant]:
    """All of a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    for place, node in enumerate(list(nodes(tree))):
        before = copy.deepcopy(node)
        if changed(node) and ast.unparse(before) != ast.unparse(node):
            yield Mutant(file=file, place=place, line=node.lineno, before=ast.unparse(before), after=ast.unparse(node))


def mutants_of(room: str) -> Iterator[Mutant]:
    """Of a folder, a file, or a line of a file (`FILE:LINE`)."""
    place, _, line = room.partition(":")
    for file in [Path(place)] if place.endswith(".py") else sorted(Path(place).rglob("*.py")):
        if file.name != "__init__.py":
            yield from (mutant for mutant in mutants(str(file)) if not line or mutant.line == int(line))


def tests_of(file: str) -> str:
    """The mirror test, or the folder of the room."""
    path = Path(file)
    mirror = Path("tests") / path.parent / f"test_{path.name}"
    return str(mirror if (ROOT / mirror).exists() else mirror.parent)


def module_of(file: str) -> str:
    """A file's name for `import`."""
    return PACKAGE + file.removesuffix(".py").replace("/", ".")


def readers() -> Mapping[str, set[str]]:
    """By name every module of ours that is loaded, and what it may have imported."""
    found: dict[str, set[str]] = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(PACKAGE) and module.__file__:
            read = found[name] = set()
            for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module:
                    read |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def forget(name: str, read_by: Mapping[str, set[str]]) -> None:
    """Let the module, and all that imported it or one that did, be imported anew."""
    gone, more = set(), {name}
    while more:
        gone |= more
        more = {reader for reader, read in read_by.items() if read & more} - gone
    for each in sorted(gone & sys.modules.keys(), reverse=True):  # a package after what is in it
        package, _, last = each.rpartition(".")
        vars(sys.modules[package]).pop(last, None)  # where `from package import module` looks first
        del sys.modules[each]


class Replaced:
    """Finds one module, and loads it from a changed tree."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = module_of(mutant.file)
        self._file = str(ROOT / mutant.file)
        found = mutated(mutant.file, mutant.place)
        assert found
        self._code = compile(found[0], self._file, "exec")

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self._file, loader=self) if name == self._name else None  # type: ignore[arg-type]

    def create_module(self, _: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102 - the mutant


def tested(mutant: Mutant | None, tests: str, limit: float, read_by: Mapping[str, set[str]]) -> tuple[str, float]:
    """What the tests say of the mutant, or without one; and the seconds it took."""
    start, child = time.monotonic(), os.fork()
    if not child:
        os.setsid()
        signal.alarm(max(1, round(limit)))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        if mutant:
            sys.meta_path.insert(0, Replaced(mutant))  # type: ignore[arg-type]
            forget(module_of(mutant.file), read_by)
        os._exit(pytest.main([*PYTEST, tests]))
    _, status = os.waitpid(child, 0)
    quiet = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}  # the latter: all of them are slow
    state = "timeout" if os.WIFSIGNALED(status) else "survived" if os.WEXITSTATUS(status) in quiet else "killed"
    return state, time.monotonic() - start


def outcomes(chosen: Sequence[Mutant], until: float) -> Iterator[Outcome]:
    """Of each mutant that is begun before `until`; a module whose tests fail without one is an error."""
    times: dict[str, float] = {}
    read_by = readers()
    for mutant in chosen:
        if time.monotonic() > until:
            return
        tests = tests_of(mutant.file)
        if tests not in times:
            state, times[tests] = tested(None, tests, 600, read_by)
            if state != "survived":
                sys.exit(f"{tests} fails without a mutant")
        state, seconds = tested(mutant, tests, LEAST_S + TIMES * times[tests], read_by)
        yield Outcome(mutant=mutant, state=state, tests=tests, seconds=seconds)
        print(f"{state:9}{seconds:6.1f} s  {mutant.file}:{mutant.line}  {mutant.before} -> {mutant.after}", flush=True)


def page(found: Sequence[Outcome], all_of_them: int, seed: int) -> str:
    """Score by room, and every survivor."""
    rooms = {"/".join(Path(each.mutant.file).parts[:-1]) for each in found}
    lines = [
        "# Mutants",
        "",
        f"{len(found)} of {all_of_them} mutants, drawn with seed {seed}; what each module's nearest tests notice",
        "(`python benchmarks/mutation.py`). One comparison, operator, constant or choice of min and max is changed.",
        "",
        "| room | mutants | noticed |",
        "| -- | --: | --: |",
    ]
    for room in sorted(rooms):
        states = Counter(each.state for each in found if str(Path(each.mutant.file).parent) == room)
        lines.append(f"| `{room}` | {states.total()} | {1 - states['survived'] / states.total():.0%} |")
    states = Counter(each.state for each in found)
    lines += [f"| all | {states.total()} | {1 - states['survived'] / states.total():.0%} |", "", "## Survivors", ""]
    survivors = [each.mutant for each in found if each.state == "survived"]
    for one in sorted(survivors, key=lambda mutant: (mutant.file, mutant.line)):
        lines.append(f"- `{one.file}:{one.line}` `{one.before}` → `{one.after}`")
    return "\n".join(lines) + "\n"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("rooms", nargs="*", default=ROOMS, help="folders, files, or lines (default: %(default)s)")
    flags.add_argument("--mutants", type=int, default=200, help="how many are drawn (default: %(default)s)")
    flags.add_argument("--minutes", type=float, default=math.inf, help="begin no other mutant after so many")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--page", type=Path, help="write the Markdown there")
    options = flags.parse_args()
    os.chdir(ROOT)
    sys.path[:] = [entry for entry in sys.path if entry != str(ROOT)]
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(ROOT / ".pytest_cache" / "bytecode")
    everything = [mutant for room in options.rooms for mutant in mutants_of(room)]
    for name in (*LIBRARIES, *sorted({module_of(mutant.file) for mutant in everything})):
        importlib.import_module(name)
    gc.freeze()  # pytest collects garbage at its end, which among all that torch has takes longer than the tests
    # In the order drawn: however few are tried, they are a sample of all.
    chosen = random.Random(options.seed).sample(everything, min(options.mutants, len(everything)))  # noqa: S311
    found = list(outcomes(chosen, time.monotonic() + 60 * options.minutes))
    print(text := page(found, len(everything), options.seed))
    if options.page:
        options.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
