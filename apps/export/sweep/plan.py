"""What a sweep is asked to do: `sweep.toml` as a list of exports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.checkpoint.reference import LOCAL, on_hub, weights_at
from rexnet_export.pipeline.core.errors import CheckpointError, DataError, UsageError
from rexnet_export.pipeline.core.meant import one_of
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.data.settle import shown
from rexnet_export.pipeline.export.apart import require_apart
from rexnet_export.pipeline.export.options import Options, from_mapping, read_toml
from rexnet_export.targets import TARGETS, USUAL

# The keys that multiply, and the field of an export's options that each one sets.
AXES = {
    "checkpoints": "checkpoint",
    "image-sizes": "image_size",
    "efforts": "effort",
    "precisions": "precision",
    "targets": "target",
}
OPTIONS, EXCLUDE = "options", "exclude"
TRIALS, SHARED = "trials", ".shared-work"  # the folder of all of them, and of what they share while they run
BUNDLED = "bundled"  # what trials of the bundled checkpoint are called
MOST_TRIALS = 10_000


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One export of a sweep; `name` is its folder, `shared` that of what trials compute for each other."""

    name: str
    options: Options
    shared: Path | None = None

    @property
    def target(self) -> str:
        """The one target it is for."""
        return self.options.target[0]

    @property
    def effort(self) -> str | None:
        """How hard INT8 is searched for; None where nothing is quantized."""
        return self.options.effort if self.options.precision == "int8" else None


def read_plan(path: Path, output: Path) -> tuple[Trial, ...]:
    """The exports that a file asks for, in the order of its product; `output` is the sweep's folder.

    Everything that can be refused before hours of work is refused here.
    """
    where = str(path)
    table = read_toml(path, where)
    known = (*AXES, OPTIONS, EXCLUDE)
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: unknown key {excerpt(repr(key))}; {one_of(key, known)}")
    combinations = list(product(*(_axis(table, key, where) for key in AXES)))
    if len(combinations) > MOST_TRIALS:
        raise UsageError(f"{where}: {len(combinations):,} trials are more than {MOST_TRIALS:,}; split the sweep")
    points = [dict(zip(AXES.values(), values, strict=True)) for values in combinations]
    left = _without_excluded(points, table.get(EXCLUDE, []), where)
    if not left:
        raise UsageError(f"{where}: all {len(points)} combinations are excluded; nothing is left to export")
    shared = _shared_options(table.get(OPTIONS, {}), where)
    trials = tuple(_trials(left, shared, output))
    for trial in trials:
        _require_precision(trial, where)
        require_apart(trial.options)
    return trials


def _axis(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The values of one axis, of the option's type; one value, the option's default, where it is not there."""
    name = AXES[key]
    default = getattr(Options(), name)
    if key not in table:
        if name == "target":
            return [(target,) for target in USUAL]
        return [default]
    values = table[key]
    if not isinstance(values, list) or not values:
        raise UsageError(
            f"{where}: {key} = {excerpt(repr(values))} is no list with anything in it; leave it out or fill it"
        )
    converted = [from_mapping({name: value}, where)[name] for value in values]
    if len(set(converted)) < len(converted):
        raise UsageError(f"{where}: {key} = {excerpt(repr(values))} says something twice")
    return [_sound(name, value, where) for value in converted]


def _sound(name: str, value: Any, where: str) -> Any:  # noqa: ANN401 - any option's value
    """The same; refused where no export could honour it."""
    if name == "target" and (len(value) != 1 or value[0] not in TARGETS):
        raise UsageError(f"{where}: targets = {excerpt(', '.join(value))}: {one_of(value[0], TARGETS)}")
    if name == "checkpoint":
        return _placed(value)
    try:
        Options(**{name: value})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return value


def _placed(checkpoint: str) -> str:
    """A checkpoint wherever a trial runs: the path from the root, or the hub's name; it must be there now."""
    if on_hub(checkpoint) is not None:
        return checkpoint
    path = weights_at(checkpoint)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {checkpoint} does not exist; nothing of the sweep was begun")
    return str(Path(checkpoint.removeprefix(LOCAL)).absolute())


def _without_excluded(points: Sequence[dict[str, Any]], excluded: object, where: str) -> list[dict[str, Any]]:
    """The combinations that no `[[exclude]]` fits; one that fits none is a slip."""
    if not isinstance(excluded, list) or not all(isinstance(each, dict) for each in excluded):
        raise UsageError(f"{where}: write every exclusion as a table of its own, [[{EXCLUDE}]]")
    left = list(points)
    for number, each in enumerate(excluded, 1):
        values = _excluded_values(each, f"{where}: [[{EXCLUDE}]] {number}")
        fitting = [point for point in points if all(point[name] == value for name, value in values.items())]
        if not fitting:
            raise UsageError(f"{where}: [[{EXCLUDE}]] {number} fits none of the {len(points)} combinations; mend it")
        left = [point for point in left if point not in fitting]
    return left


def _excluded_values(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = [name.replace("_", "-") for name in AXES.values()]
    if not table or not set(table) <= set(known):
        raise UsageError(f"{where}: give one or more of {', '.join(known)}")
    values = from_mapping(table, where)
    return {name: _placed(value) if name == "checkpoint" else value for name, value in values.items()}


def _shared_options(table: object, where: str) -> dict[str, Any]:
    """The options that all trials have; paths from the root, as workers start elsewhere."""
    if not isinstance(table, dict):
        raise UsageError(f"{where}: {OPTIONS} is a table: [{OPTIONS}]")
    values = from_mapping(table, f"{where}: [{OPTIONS}]")
    for name in (*AXES.values(), "output"):
        if name in values:
            better = next((key for key, field in AXES.items() if field == name), None)
            say = f"write it as {better} = [...]" if better else "give it on the command line"
            raise UsageError(f"{where}: [{OPTIONS}] has {name.replace('_', '-')}: {say}")
    return {name: _present(name, value) if isinstance(value, Path) else value for name, value in values.items()}


def _present(name: str, path: Path) -> Path:
    """A file or folder that trials read, from the root; it must be there now."""
    if not path.exists():
        raise DataError(f"{name.replace('_', '-')} {path} does not exist; nothing of the sweep was begun")
    return path.absolute()


def _trials(points: Sequence[Mapping[str, Any]], shared: Mapping[str, Any], output: Path) -> Iterator[Trial]:
    """One trial for each combination; those that differ in nothing that counts are one."""
    stems = _stems([point["checkpoint"] for point in points])
    seen: set[str] = set()
    for point in points:
        trial = Trial(name="", options=Options(**{**shared, **point}))
        size = point["image_size"]
        parts = (
            stems[point["checkpoint"]],
            None if size is None else shown(size).replace(" ", "x"),
            trial.effort,
            point["precision"],
            trial.target,
        )
        name = "-".join(part for part in parts if part)
        if name not in seen:
            seen.add(name)
            folder = output.absolute() / TRIALS / name
            options = replace(trial.options, output=folder)
            yield replace(trial, name=name, options=options, shared=output.absolute() / SHARED)


def _stems(checkpoints: Sequence[str | None]) -> dict[str | None, str]:
    """A short name for each checkpoint, its own; a number where two have the same."""
    names: dict[str | None, str] = {}
    for checkpoint in dict.fromkeys(checkpoints):
        given = BUNDLED if checkpoint is None else Path(checkpoint).stem
        stem = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in given)
        taken = sum(name == stem or name.startswith(f"{stem}~") for name in names.values())
        names[checkpoint] = f"{stem}~{taken + 1}" if taken else stem
    return names


def _require_precision(trial: Trial, where: str) -> None:
    precision = trial.options.precision
    if precision not in TARGETS.listings[trial.target].precisions:
        raise UsageError(
            f"{where}: {trial.target} has no {precision}: add [[{EXCLUDE}]] with "
            f'target = "{trial.target}", precision = "{precision}"'
        )
