"""Making an export again from its manifest, and comparing every file: the proof that it came from where it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.artifact.export_folder import MOST_RECORD_BYTES, require_whole
from rexnet_export.pipeline.artifact.manifest import ManifestJson
from rexnet_export.pipeline.artifact.provenance import tools_of
from rexnet_export.pipeline.checkpoint.bundled import bundled_checkpoint
from rexnet_export.pipeline.checkpoint.reference import export_at, on_hub, weights_at
from rexnet_export.pipeline.core.errors import CheckpointError, ConversionError, UsageError
from rexnet_export.pipeline.core.files import (
    BACKBONE_FILE,
    MANIFEST_FILE,
    PROVENANCE_FILE,
    QPARAMS_FILE,
    REPORT_FILE,
    SBOM_FILE,
)
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.core.reproducible import at
from rexnet_export.pipeline.core.strict_json import read_json
from rexnet_export.pipeline.core.untrusted import read_untrusted
from rexnet_export.pipeline.export.options import Options, from_mapping

# What a run writes of itself: the same again only where times and machines are left out.
OF_THE_RUN = (REPORT_FILE, "report.html", BACKBONE_FILE, SBOM_FILE)
# What of the report and of the table says why another file came out, by file.
TELLING = {
    REPORT_FILE: ("precision", "model", "calibration", "reference"),
    BACKBONE_FILE: ("precision", "model", "calibration", "reference"),
    QPARAMS_FILE: ("calibration",),
}
MEASURED = {"top1", "executed_by"}  # what follows from the files, and is no reason for them

type Make = Callable[[Options], None]


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """Files by what came of them, and what else differs between then and now, each in a few words."""

    folder: Path
    same: tuple[str, ...]
    differing: tuple[str, ...]
    not_compared: tuple[str, ...]
    reasons: tuple[str, ...]


def rebuild(folder: Path, checkpoint: str, given: Mapping[str, Any], make: Make, into: Path) -> Rebuilt:
    """Make `folder` again in `into`, with its recorded options but for those `given`, and compare digests.

    `make` runs an export. `CheckpointError` where the checkpoint is another than the recorded one, `UsageError` where
    the folder is no export; nothing is made then.
    """
    if not (folder / MANIFEST_FILE).is_file():
        raise UsageError(f"--rebuild: {folder} has no {MANIFEST_FILE}; name a folder that rexnet-export wrote")
    require_whole(folder)
    recorded = _manifest(folder)
    _require_checkpoint(checkpoint, recorded, folder)
    named = {} if _is_bundled(recorded) else {"checkpoint": checkpoint}
    options = _options(recorded, folder, {**given, **named}, into)
    moment = _moment(folder) if recorded.environment["system"] is None else None
    with at(moment or 0):  # what is not compared need not be timed
        make(options)
    return _compared(folder, into, recorded, reproducible=moment is not None)


def _manifest(folder: Path) -> ManifestJson:
    return ManifestJson.parse(read_untrusted(folder / MANIFEST_FILE, MOST_RECORD_BYTES))


def _require_checkpoint(checkpoint: str, recorded: ManifestJson, folder: Path) -> None:
    if on_hub(checkpoint) is not None:
        return  # its digest is compared with the others
    earlier, wanted = export_at(checkpoint), recorded.inputs.checkpoint.sha256
    if earlier:
        if file_sha256(earlier / MANIFEST_FILE) != wanted:
            raise CheckpointError(f"{earlier} is not the export that {folder} was made from (its manifest: {wanted})")
        return
    from rexnet_export.pipeline.checkpoint.file import stored_checkpoint  # noqa: PLC0415 - it needs torch

    path = weights_at(checkpoint)
    if path.exists() and stored_checkpoint(path).sha256 != wanted:
        raise CheckpointError(f"{path} is not the checkpoint that {folder} was made from (SHA-256 {wanted})")


def _is_bundled(recorded: ManifestJson) -> bool:
    """Whether no checkpoint was named, and the bundled one here is that of then: records name none again."""
    sha256 = recorded.inputs.checkpoint.sha256
    return recorded.inputs.options.get("checkpoint") is None and file_sha256(bundled_checkpoint()) == sha256


def _options(recorded: ManifestJson, folder: Path, given: Mapping[str, Any], into: Path) -> Options:
    """The recorded options, which an export of another release may not know."""
    values = {name: value for name, value in recorded.inputs.options.items() if value is not None}
    settled = from_mapping({**values, **given}, str(folder / MANIFEST_FILE))
    return replace(Options(), **settled, output=into)


def _moment(folder: Path) -> int:
    """The moment that the records of a reproducible export name."""
    report = next((folder / name for name in (REPORT_FILE, BACKBONE_FILE) if (folder / name).exists()), None)
    if report is None:
        raise UsageError(f"--rebuild: {folder} has neither {REPORT_FILE} nor {BACKBONE_FILE}, which name its moment")
    content: Any = read_json(report, MOST_RECORD_BYTES)
    try:
        return int(datetime.fromisoformat(content["created"]).timestamp())
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(f"{report} does not say when it was created; export again") from error


def _compared(folder: Path, into: Path, recorded: ManifestJson, *, reproducible: bool) -> Rebuilt:
    made = _manifest(into)
    apart = () if reproducible else OF_THE_RUN
    names = sorted({*recorded.files, *made.files} - {*apart})
    differing = [name for name in names if _digest(recorded, name) != _digest(made, name)]
    if reproducible:
        vouching = [name for name in (MANIFEST_FILE, PROVENANCE_FILE) if (folder / name).exists()]
        names += vouching
        differing += [name for name in vouching if file_sha256(folder / name) != file_sha256(into / name)]
    return Rebuilt(
        folder=folder,
        same=tuple(name for name in names if name not in differing),
        differing=tuple(differing),
        not_compared=tuple(name for name in apart if name in recorded.files),
        reasons=tuple(dict.fromkeys(_reasons(folder, into, recorded, made, reproducible=reproducible)))
        if differing
        else (),
    )


def _digest(manifest: ManifestJson, name: str) -> str | None:
    return manifest.files[name].sha256 if name in manifest.files else None


def _reasons(
    folder: Path, into: Path, recorded: ManifestJson, made: ManifestJson, *, reproducible: bool
) -> Iterator[str]:
    """Options, tools, materials and settings that are not what they were."""
    then, now = recorded.inputs, made.inputs
    tools_then, tools_now = _tools((folder, recorded), (into, made))
    pairs: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "option": (then.options, now.options),
        "tool": (tools_then, tools_now),
        "checkpoint": ({"sha256": then.checkpoint.sha256}, {"sha256": now.checkpoint.sha256}),
    }
    for what, (before, after) in pairs.items():
        # Where data lies is no reason, what it holds is told by its digest; but reproducible records hold its name.
        changes = _changes(before, after)
        yield from (f"{what} {line}" for line in changes if reproducible or not line.startswith(_PLACES))
    for name, keys in TELLING.items():
        if (folder / name).exists() and (into / name).exists():
            before, after = (_parts(place / name, keys) for place in (folder, into))
            yield from (f"{name} {line}" for line in _changes(before, after))


_PLACES = tuple(
    f"{name}:" for name in ("checkpoint", "calibration_data", "eval_data", "eval_labels", "labels", "qparams")
)


def _tools(*exports: tuple[Path, ManifestJson]) -> list[dict[str, str | None]]:
    """Every tool's version, and the digest of our own code, where all have provenance; else what manifests know."""
    statements = [folder / PROVENANCE_FILE for folder, _ in exports]
    if all(path.exists() for path in statements):
        return [tools_of(read_json(path, MOST_RECORD_BYTES)) for path in statements]
    return [dict(manifest.environment["packages"]) for _, manifest in exports]


def _parts(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    content: Any = read_json(path, MOST_RECORD_BYTES)
    if not isinstance(content, dict):
        raise ConversionError(f"{path} is damaged: it is not an object; export again")
    return {
        f"{key}.{inner}": value
        for key in keys
        for inner, value in (content[key].items() if isinstance(content.get(key), dict) else [("", content.get(key))])
        if inner not in MEASURED
    }


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"{name.rstrip('.')}: {_short(then.get(name))} then, {_short(now.get(name))} now"


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
