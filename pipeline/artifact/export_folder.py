"""Which files a release folder holds, and what its own records say of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rexnet_export.pipeline.core.errors import ConversionError, UsageError
from rexnet_export.pipeline.core.files import BACKBONE_FILE, MANIFEST_FILE, QPARAMS_FILE, REPORT_FILE
from rexnet_export.pipeline.core.records import StoredFile, stored_file
from rexnet_export.pipeline.core.strict_json import read_json
from rexnet_export.pipeline.core.text import excerpt

MOST_RECORD_BYTES = 64 * 2**20
LONGEST_NAME = 255  # bytes that a file system takes
PACKAGES = frozenset({".mlpackage"})  # folders that are one artifact


@dataclass(frozen=True, kw_only=True)
class Release:
    """The artifacts to look at, and for those from an output folder what vouches for them.

    `digests` are the manifests', by path; `tables` and `float_graphs` are what the artifacts may be compared with.
    """

    artifacts: tuple[Path, ...]
    digests: Mapping[Path, str]
    tables: tuple[StoredFile, ...]
    float_graphs: tuple[StoredFile, ...]


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What a manifest says of one file."""

    sha256: str
    bytes: int | None


def find_release(paths: tuple[Path, ...], suffixes: tuple[str, ...]) -> Release:
    """Folders stand for the artifacts that their report names (or all that end in `suffixes`); files for themselves.

    A folder must hold every file of its manifest as it was written, but for artifacts, which are left to `examine`.
    """
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
            require_whole(path, but=frozenset(found))
            artifacts.update(dict.fromkeys(found))
            folders[path] = None
        else:
            raise UsageError(f"{path} is no artifact by its name: artifacts end in {', '.join(suffixes)}")
    known = {folder: digests(folder) for folder in folders}

    def beside(pattern: str) -> tuple[StoredFile, ...]:
        """Files that the manifest of their folder knows; a folder without one has nothing better than its files."""
        found = (path for folder in folders for path in sorted(folder.glob(pattern)))
        return tuple(stored(path) for path in found if not known[path.parent] or path.name in known[path.parent])

    return Release(
        artifacts=tuple(artifacts),
        digests={folder / name: digest for folder, named in known.items() for name, digest in named.items()},
        tables=beside(QPARAMS_FILE),
        float_graphs=beside("*.onnx"),
    )


def require_whole(folder: Path, but: Collection[Path] = ()) -> None:
    """`ConversionError` unless every file that the folder's manifest names, `but` these, is what it says.

    A folder without a report may have no manifest either: nothing in it claims to be an export.
    """
    if problems := altered(folder, but):
        raise ConversionError(f"{folder}: {'; '.join(problems)}; export again")


def require_vouched(path: Path) -> None:
    """`ConversionError` unless a folder is whole, or a file what the manifest beside it says, where one knows it."""
    if path.suffix not in PACKAGES and path.is_dir():
        require_whole(path)
        return
    entry = _manifest(path.parent).get(path.name)
    if entry is not None and (problem := _difference(path, entry)):
        raise ConversionError(f"{path.parent}: {problem}; export again")


def altered(folder: Path, but: Collection[Path] = ()) -> list[str]:
    """What of an output folder is not as its manifest says, each thing in a few words."""
    known = _manifest(folder)
    reports = [name for name in (REPORT_FILE, BACKBONE_FILE) if (folder / name).exists()]
    if not known and reports:
        return [f"it holds {reports[0]}, but no {MANIFEST_FILE} that vouches for it"]
    problems = [f"{MANIFEST_FILE} does not know {name}" for name in reports if name not in known]
    return problems + [
        problem
        for name, entry in known.items()
        if folder / name not in but and (problem := _difference(folder / name, entry))
    ]


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 by name of every file that the folder's manifest knows."""
    return {name: entry.sha256 for name, entry in _manifest(folder).items()}


def _difference(path: Path, entry: _Entry) -> str | None:
    """How a file differs from its entry; the size is asked first, as it costs nothing."""
    if not path.exists():
        return f"{path.name} is missing"
    try:
        same_size = entry.bytes is None or path.is_dir() or path.stat().st_size == entry.bytes
        if same_size and stored_file(path).sha256 == entry.sha256:
            return None
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return f"{path.name} is not what {MANIFEST_FILE} says"


def artifact_at(path: Path, target: str | None, suffixes: tuple[str, ...]) -> Path:
    """A file for itself; of an output folder the artifact of `target` (`ort`, or `ort x86` for a preset).

    What a manifest vouches for must be as it says.
    """
    if path.suffix in suffixes or not path.is_dir():
        if not path.exists():
            raise UsageError(f"{path} does not exist; name an artifact, or a folder that rexnet-export wrote")
        require_vouched(path)
        return path
    named = _by_target(path / REPORT_FILE)
    if not named:
        raise UsageError(f"{path} holds no {REPORT_FILE} with artifacts; name a folder that rexnet-export wrote")
    if target not in named:
        which = "give --target" if target is None else f"it has no {target!r}"
        raise UsageError(f"{path} is a folder: {which}; there are {', '.join(named)}")
    require_whole(path)
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


def _manifest(folder: Path) -> dict[str, _Entry]:
    """Digest and size of every file by its name; nothing where there is no manifest."""
    path = folder / MANIFEST_FILE
    files = _read(path).get("files", {})
    try:
        found = {name: _Entry(sha256=str(file["sha256"]), bytes=file.get("bytes")) for name, file in files.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ConversionError(f"{path} is no manifest of rexnet-export; export again") from error
    for name in found:
        _require_member(path, name)
    if path.exists() and not found:
        raise ConversionError(f"{path} names no file; export again")
    return found


def _require_member(record: Path, name: object) -> None:
    """A record may only speak of files beside it."""
    plain = isinstance(name, str) and name.isprintable() and len(name.encode()) <= LONGEST_NAME
    if not isinstance(name, str) or not plain or Path(name).name != name or name in {"", ".", ".."}:
        raise ConversionError(f"{record} names {excerpt(repr(name))}, which is no file beside it; export again")


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file."""
    try:
        content = read_json(path, MOST_RECORD_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConversionError(f"{path} cannot be read ({error.strerror}); export again") from error
    except ConversionError as error:
        raise ConversionError(f"{path} is damaged ({error}); export again") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{path} is damaged: it holds no object; export again")
    return content
