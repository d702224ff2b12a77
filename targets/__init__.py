"""Deployment targets, one folder each; `TARGETS` is the one list of them, ours and those of other installed packages.

Another package registers a target by an entry point in the group `rexnet_export.targets`: its value is a class that is
made without arguments and is a `pipeline.artifact.target.Target`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from rexnet_export.pipeline.artifact.target import Target
from rexnet_export.pipeline.core.errors import TargetUnavailable, UsageError, first_line
from rexnet_export.pipeline.core.records import PRECISIONS, Precision
from rexnet_export.targets.coreml.target import CoreML
from rexnet_export.targets.gpu.target import Gpu
from rexnet_export.targets.ort.target import Ort
from rexnet_export.targets.tflite.target import Tflite

ALL = "all"
GROUP = "rexnet_export.targets"


def registered(ours: Sequence[Target], plugins: Iterable[EntryPoint]) -> tuple[dict[str, Target], dict[str, str]]:
    """Targets by name, ours first; and of plugins that cannot be used, by the entry point's name, one line that says
    why."""
    targets, broken = {target.name: target for target in ours}, {}
    for plugin in sorted(plugins, key=lambda plugin: plugin.name):
        try:
            target: Target = plugin.load()()
            targets[_checked(target, targets)] = target
        except (Exception, SystemExit) as error:  # noqa: BLE001 - another package's code may fail in any way
            package = f"package {plugin.dist.name} {plugin.dist.version}" if plugin.dist else plugin.value
            broken[plugin.name] = f"target plugin {plugin.name!r} of {package} cannot be used: {_reason(error)}"
    return targets, broken


def _checked(target: Target, others: Mapping[str, Target]) -> str:
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
    for other in others.values():
        if name == other.name:
            raise ValueError(f"there is a target {name!r} already")
        if shared := sorted(set(suffixes) & set(other.suffixes)):
            raise ValueError(f"files that end in {shared[0]} are those of target {other.name!r}")
    return name


def _reason(error: BaseException) -> str:
    return first_line(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {first_line(error)}"


TARGETS: Mapping[str, Target]
BROKEN: Mapping[str, str]
TARGETS, BROKEN = registered((CoreML(), Tflite(), Ort(), Gpu()), entry_points(group=GROUP))
SUFFIXES: tuple[str, ...] = tuple(suffix for target in TARGETS.values() for suffix in target.suffixes)
# What may stand after `--target`; that a plugin is broken is said to those who ask for it.
WORDS: tuple[str, ...] = (*dict.fromkeys((*TARGETS, *BROKEN)), ALL)


def chosen(names: Sequence[str], precision: Precision) -> list[Target]:
    """The targets of these names in the table's order, each once; `all` means every one that has the precision."""
    if unknown := sorted(set(names) - set(WORDS)):
        raise UsageError(f"--target {unknown[0]!r}: choose one of {', '.join(WORDS)}")
    for name, line in BROKEN.items():
        if ALL in names or (name in names and name not in TARGETS):
            raise TargetUnavailable(f"{line}; mend or uninstall it, or name other targets with --target")
    return [
        target for name, target in TARGETS.items() if name in names or (ALL in names and precision in target.precisions)
    ]
