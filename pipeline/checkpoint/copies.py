"""Where in a file's dictionaries a ReXNet stands: every copy of it, found by its stem, and which one is taken.

Whatever stands before `stem.conv.weight` (timm's name) or `features.0.weight` (the authors') is its prefix: names
of dictionaries (`state_dict_ema`), of wrapping modules (`module._orig_mod.backbone`), or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.pickles.stored_tensor import StoredTensor
from rexnet_export.pipeline.pickles.values import NumpyArray, Record, unreadable

DEEPEST = 12  # dictionaries in dictionaries, and modules in modules of a TorchScript program
_STEM = re.compile(r"(?:^|\.)(stem\.conv|features\.0)\.weight$")
_PARAMETER = re.compile(r"\.(weight|bias|running_mean|running_var)$")
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged?|shadow)(?=[._\d]|$)", re.IGNORECASE)
_TEACHER = re.compile(r"(^|[._])teacher(?=[._]|$)", re.IGNORECASE)
# What `torch.compile`, FSDP and activation checkpointing put between the names of modules.
_BETWEEN = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One ReXNet in a file: its tensors by what follows its prefix, and those beside it in the same dictionary.

    `place` is the path of dictionaries, `prefix` the start of the names inside the last of them.
    """

    place: tuple[str, ...]
    prefix: str
    inside: Mapping[str, StoredTensor]
    outside: Mapping[str, StoredTensor]

    @property
    def name(self) -> str:
        """What the copy is called where there are several: its path and prefix."""
        return ".".join([*self.place, *self.prefix.split(".")]).strip(".") or "plain"

    @property
    def wrapper(self) -> str:
        """The dictionaries it was taken from."""
        return ".".join(self.place) or "plain"


def copies(values: object) -> tuple[Copy, ...]:
    """Every ReXNet in a file's content, in the file's order."""
    found: list[Copy] = []
    for place, tensors in groups(values):
        prefixes = list(dict.fromkeys(name[: match.start(1)] for name in tensors if (match := _STEM.search(name))))
        owners = {name: _longest(prefixes, name) for name in tensors}
        for prefix in prefixes:
            inside = {name.removeprefix(prefix): each for name, each in tensors.items() if owners[name] == prefix}
            outside = {name: each for name, each in tensors.items() if owners[name] is None}
            found.append(Copy(place=place, prefix=prefix, inside=inside, outside=outside))
    return tuple(found)


def _longest(prefixes: list[str], name: str) -> str | None:
    return max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default=None)


def chosen(found: tuple[Copy, ...], name: str | None, where: str) -> tuple[Copy, str | None]:
    """The copy to take, and a line about the choice where there was one.

    Averaged weights come first, as they are what a training run reports its accuracy with; a teacher comes last.
    """
    names = [copy.name for copy in found]
    if name is not None:
        named = [copy for copy in found if name == copy.name] or [copy for copy in found if _answers(copy, name)]
        if len(named) != 1:
            problem = "names several networks" if named else "names no network"
            raise UsageError(f"--weights {excerpt(name)} {problem} in {where}: choose one of {_listed(names)}")
        return named[0], None
    taken = min(found, key=_rank)
    if len(found) == 1:
        return taken, None
    return (
        taken,
        f"the file holds {len(found)} networks ({_listed(names)}): took {excerpt(taken.name)}; --weights chooses",
    )


def _rank(copy: Copy) -> int:
    if _AVERAGED.search(copy.name):
        return 0
    return 2 if _TEACHER.search(copy.name) else 1


def _answers(copy: Copy, name: str) -> bool:
    """Whether `name` is one or more whole parts of the copy's name."""
    return f".{name}." in f".{copy.name}."


def _listed(names: list[str], limit: int = 6) -> str:
    return ", ".join(excerpt(name) for name in names[:limit]) + (", ..." if len(names) > limit else "")


def groups(values: object) -> Iterator[tuple[tuple[str, ...], dict[str, StoredTensor]]]:
    """Dictionaries that hold tensors, with the path to each; every dictionary once, however often the file names it."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], object]] = [((), values)]
    while waiting:
        place, value = waiting.pop(0)
        if isinstance(value, Record) and not value.scripted:
            value = value.fields
        if id(value) in seen or len(place) > DEEPEST or not isinstance(value, Mapping | Record):
            continue
        seen.add(id(value))
        if isinstance(value, Record):
            yield place, dict(_scripted(value))
            continue
        tensors = {
            _BETWEEN.sub("", name).removeprefix("."): _tensor(each)
            for name, each in value.items()
            if isinstance(name, str) and (_holds_numbers(each) or _lost(name, each))
        }
        tensors.pop("n_averaged", None)  # torch's AveragedModel counts its updates beside the weights
        if tensors:
            yield place, tensors
        waiting += [((*place, key), each) for key, each in value.items() if isinstance(key, str)]


def _scripted(program: Record) -> Iterator[tuple[str, StoredTensor]]:
    """A TorchScript program's tensors by their modules' path."""
    waiting: list[tuple[str, Record]] = [("", program)]
    seen: set[int] = set()
    while waiting:
        path, module = waiting.pop(0)
        if id(module) in seen:
            continue
        seen.add(id(module))
        for name, each in module.fields.items():
            if isinstance(each, Record) and each.scripted and path.count(".") < DEEPEST:
                waiting.append((f"{path}{name}.", each))
            elif isinstance(each, StoredTensor):
                yield f"{path}{name}", each


def _holds_numbers(value: object) -> bool:
    return isinstance(value, StoredTensor) or (isinstance(value, NumpyArray) and not value.words)


def _lost(name: str, value: object) -> bool:
    """Whether a module's weight or bias is there and is no tensor: a network without it would be another one."""
    return _PARAMETER.search(name) is not None and not isinstance(value, Mapping | Record)


def _tensor(value: object) -> StoredTensor:
    if isinstance(value, NumpyArray):
        return value.tensor()
    return value if isinstance(value, StoredTensor) else unreadable(f"a {type(value).__name__} and no tensor")
