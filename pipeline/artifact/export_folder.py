"""Which files a release folder holds, and what its own records say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.core.errors import ConversionError, UsageError
from rexnet_export.pipeline.core.files import BACKBONE_FILE, MANIFEST_FILE, QPARAMS_FILE, REPORT_FILE
from rexnet_export.pipeline.core.records import StoredFile, stored_file


@dataclass(frozen=True, kw_only=True)
class Release:
    """The artifacts to look at, and for those from an output folder what vouches for them.

    `digests` are the manifests', by path; `tables` and `float_graphs` are what the artifacts may be compared with.
    """

    artifacts: tuple[Path, ...]
    digests: Mapping[Path, str]
    tables: tuple[StoredFile, ...]
    float_graphs: tuple[StoredFile, ...]


def find_release(paths: tuple[Path, ...], suffixes: tuple[str, ...]) -> Release:
    """Folders stand for the artifacts that their report names (or all that end in `suffixes`); files for themselves."""
    artifacts: dict[Path, None] = {}
    folders: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist; name artifacts, or a folder that rexnet-export wrote")
        if path.suffix in suffixes:
            artifacts[path] = None
            folders[path.parent] = None
        elif path.is_dir():
            found = list(_artifacts(path, suffixes))
            if not found:
                raise UsageError(f"{path} holds no artifact; name a folder that rexnet-export wrote")
            artifacts.update(dict.fromkeys(found))
            folders[path] = None
        else:
            raise UsageError(f"{path} is no artifact by its name: artifacts end in {', '.join(suffixes)}")
    return Release(
        artifacts=tuple(artifacts),
        digests={folder / name: digest for folder in folders for name, digest in _manifest(folder).items()},
        tables=tuple(stored(folder / QPARAMS_FILE) for folder in folders if (folder / QPARAMS_FILE).is_file()),
        float_graphs=tuple(stored(graph) for folder in folders for graph in sorted(folder.glob("*.onnx"))),
    )


def artifact_at(path: Path, target: str | None, suffixes: tuple[str, ...]) -> Path:
    """A file for itself; of an output folder the artifact of `target` (`ort`, or `ort x86` for a preset)."""
    if path.suffix in suffixes or not path.is_dir():
        if not path.exists():
            raise UsageError(f"{path} does not exist; name an artifact, or a folder that rexnet-export wrote")
        return path
    named = _by_target(path / REPORT_FILE)
    if not named:
        raise UsageError(f"{path} holds no {REPORT_FILE} with artifacts; name a folder that rexnet-export wrote")
    if target not in named:
        which = "give --target" if target is None else f"it has no {target!r}"
        raise UsageError(f"{path} is a folder: {which}; there are {', '.join(named)}")
    return path / named[target]


def stored(path: Path) -> StoredFile:
    """The file as it is now."""
    try:
        return stored_file(path)
    except OSError as error:
        raise ConversionError(f"cannot read {path}: {error.strerror}") from error


def _artifacts(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    named = [folder / name for name in _named_in_reports(folder)]
    yield from named or (path for path in sorted(folder.iterdir()) if path.suffix in suffixes)


def _named_in_reports(folder: Path) -> list[str]:
    return [name for report in (REPORT_FILE, BACKBONE_FILE) for name in _by_target(folder / report).values()]


def _by_target(report: Path) -> dict[str, str]:
    """File names that a report gives, by target, or by target and preset."""
    targets = _read(report).get("targets", {})
    try:
        files = {
            f"{name} {preset}".strip(): file["artifact"]
            for name, target in targets.items()
            for preset, file in {"": target, **target["presets"]}.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ConversionError(f"{report} is no report of rexnet-export; export again") from error
    for name in files.values():
        _require_member(report, name)
        if not (report.parent / name).exists():
            raise ConversionError(f"{report.parent / name} is missing, but {report.name} names it; export again")
    return files


def _manifest(folder: Path) -> dict[str, str]:
    files = _read(folder / MANIFEST_FILE).get("files", {})
    try:
        digests = {name: str(file["sha256"]) for name, file in files.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ConversionError(f"{folder / MANIFEST_FILE} is no manifest of rexnet-export; export again") from error
    for name in digests:
        _require_member(folder / MANIFEST_FILE, name)
    return digests


def _require_member(record: Path, name: object) -> None:
    """A record may only speak of files beside it."""
    if not isinstance(name, str) or Path(name).name != name or name in {"", ".", ".."}:
        raise ConversionError(f"{record} names {name!r}, which is no file beside it; export again")


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is damaged ({error}); export again") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{path} is damaged: it holds no object; export again")
    return content
