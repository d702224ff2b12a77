"""Deployment targets, one folder each; `TARGETS` is the one list of them, ours and those of other installed packages.

Another package registers a target by an entry point in the group `rexnet_export.targets`: its value is a class that is
made without arguments and is a `pipeline.artifact.target.Target`. Ours stand here the same way, with what a command
line and a file's name need to know of them; each is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, override

from rexnet_export.pipeline.core.errors import TargetUnavailable, UsageError, first_line
from rexnet_export.pipeline.core.meant import one_of
from rexnet_export.pipeline.core.records import PRECISIONS, Precision

if TYPE_CHECKING:  # it imports numpy
    from rexnet_export.pipeline.artifact.target import Target

ALL = "all"
GROUP = "rexnet_export.targets"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A target that is not imported yet: `module:class`, and what the class says of precisions and file names."""

    kind: str
    precisions: tuple[Precision, ...]
    suffixes: tuple[str, ...]
    needs: str = ""  # a module that exports do not bring: such a target is none of `all`, and asked for by its name


def _listed(kind: str, precisions: tuple[Precision, ...], *suffixes: str, needs: str = "") -> Listing:
    return Listing(kind=kind, precisions=precisions, suffixes=suffixes, needs=needs)


OURS = {
    "coreml": _listed("rexnet_export.targets.coreml.target:CoreML", PRECISIONS, ".mlpackage"),
    "tflite": _listed("rexnet_export.targets.tflite.target:Tflite", ("int8", "fp16", "fp32"), ".tflite"),
    "ort": _listed("rexnet_export.targets.ort.target:Ort", ("int8", "fp32"), ".ort", ".onnx"),
    "gpu": _listed("rexnet_export.targets.gpu.target:Gpu", ("int8", "fp16", "fp32"), ".safetensors"),
    "openvino": _listed(
        "rexnet_export.targets.openvino.target:Openvino", ("int8", "fp16", "fp32"), ".openvino", needs="openvino"
    ),
}


class Registry(Mapping[str, "Target"]):
    """Targets by name; `listings` say of each what is known without importing it."""

    def __init__(self, listings: Mapping[str, Listing], made: Mapping[str, Target]) -> None:
        self.listings = listings
        self._made = dict(made)

    @override
    def __getitem__(self, name: str) -> Target:
        if name not in self._made:
            module, _, kind = self.listings[name].kind.partition(":")
            self._made[name] = getattr(import_module(module), kind)()
        return self._made[name]

    @override
    def __contains__(self, name: object) -> bool:
        return name in self.listings  # Mapping would import the target to know

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.listings)

    @override
    def __len__(self) -> int:
        return len(self.listings)


def registered(ours: Mapping[str, Listing], plugins: Sequence[EntryPoint]) -> tuple[Registry, Mapping[str, str]]:
    """Targets by name, ours first; and of plugins that cannot be used, by the entry point's name, one line that says
    why. A plugin says its name and suffixes only when it is loaded, so that is done at once."""
    listings, made, broken = dict(ours), {}, {}
    for plugin in sorted(plugins, key=lambda plugin: plugin.name):
        try:
            target: Target = plugin.load()()
            name = _checked(target, listings)
            listings[name] = Listing(kind=plugin.value, precisions=target.precisions, suffixes=target.suffixes)
            made[name] = target
        except (Exception, SystemExit) as error:  # noqa: BLE001 - another package's code may fail in any way
            package = f"package {plugin.dist.name} {plugin.dist.version}" if plugin.dist else plugin.value
            broken[plugin.name] = f"target plugin {plugin.name!r} of {package} cannot be used: {_reason(error)}"
    return Registry(listings, made), broken


def _checked(target: Target, others: Mapping[str, Listing]) -> str:
    """The name of a plugin's target; ValueError where it is no target or takes what another one has."""
    members = ("name", "precisions", "suffixes", "require", "convert", "open", "inspect")
    if missing := [member for member in members if not hasattr(target, member)]:
        raise ValueError(f"it has no {missing[0]!r}")
    name, suffixes = target.name, target.suffixes
    if not (isinstance(name, str) and name.isidentifier() and name.isascii() and name.islower()) or name == ALL:
        raise ValueError(f"{name!r} is no name of a target: use lower-case letters, digits and _")
    if not target.precisions or not set(target.precisions) <= set(PRECISIONS):
        raise ValueError(f"its precisions are {target.precisions!r}, not one or more of {', '.join(PRECISIONS)}")
    if not isinstance(suffixes, tuple) or not suffixes or not all(suffix.startswith(".") for suffix in suffixes):
        raise ValueError(f"its suffixes are {suffixes!r}, not a tuple of endings such as '.tflite'")
    if name in others:
        raise ValueError(f"there is a target {name!r} already")
    for other, listing in others.items():
        if shared := sorted(set(suffixes) & set(listing.suffixes)):
            raise ValueError(f"files that end in {shared[0]} are those of target {other!r}")
    return name


def _reason(error: BaseException) -> str:
    return first_line(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {first_line(error)}"


TARGETS, BROKEN = registered(OURS, tuple(entry_points(group=GROUP)))
SUFFIXES: tuple[str, ...] = tuple(suffix for listing in TARGETS.listings.values() for suffix in listing.suffixes)
# What `all` stands for: the targets that need no more than exports do, on every machine the same.
USUAL: tuple[str, ...] = tuple(name for name, listing in TARGETS.listings.items() if not listing.needs)
# What may stand after `--target`; that a plugin is broken is said to those who ask for it.
WORDS: tuple[str, ...] = (*dict.fromkeys((*TARGETS, *BROKEN)), ALL)


def chosen(names: Sequence[str], precision: Precision, *, without: Collection[str] = ()) -> list[Target]:
    """The targets of these names in the table's order, each once; `all` means usual ones that have the precision, but
    those `without`."""
    if unknown := sorted(set(names) - set(WORDS)):
        raise UsageError(f"--target {unknown[0]!r}: {one_of(unknown[0], WORDS)}")
    for name, line in BROKEN.items():
        if ALL in names or (name in names and name not in TARGETS):
            raise TargetUnavailable(f"{line}; mend or uninstall it, or name other targets with --target")
    listings = TARGETS.listings.items()
    usual = {name for name, known in listings if name in USUAL and precision in known.precisions} - {*without}
    wanted = [name for name, _ in listings if name in names or (ALL in names and name in usual)]
    return [TARGETS[name] for name in wanted]


def lacking(names: Sequence[str], precision: Precision) -> list[str]:
    """The usual targets that `all` leaves out here, as they have no such precision."""
    if ALL not in names:
        return []
    return [name for name in USUAL if name not in names and precision not in TARGETS.listings[name].precisions]
