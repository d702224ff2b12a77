"""Which files a release folder holds, and what its own records say of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict

from rexnet_export.pipeline.artifact.manifest import FileEntry, ManifestJson, require_member
from rexnet_export.pipeline.artifact.provenance import require_stated
from rexnet_export.pipeline.core.errors import ConversionError, UsageError
from rexnet_export.pipeline.core.files import BACKBONE_FILE, MANIFEST_FILE, PROVENANCE_FILE, QPARAMS_FILE, REPORT_FILE
from rexnet_export.pipeline.core.json_record import JsonRecord
from rexnet_export.pipeline.core.records import StoredFile, stored_file
from rexnet_export.pipeline.core.untrusted import read_untrusted

MOST_RECORD_BYTES = 64 * 2**20
PACKAGES = frozenset({".mlpackage", ".openvino"})  # folders that are one artifact


@dataclass(frozen=True, kw_only=True)
class Release:
    """The artifacts to look at, and for those from an output folder what vouches for them.

    `digests` are the manifests', by path; `tables` and `float_graphs` are what the artifacts may be compared with.
    """

    artifacts: tuple[Path, ...]
    digests: Mapping[Path, str]
    tables: tuple[StoredFile, ...]
    float_graphs: tuple[StoredFile, ...]


class _Made(JsonRecord):
    """Of an artifact in a report only where it is."""

    model_config = ConfigDict(extra="ignore")

    artifact: Annotated[str, AfterValidator(require_member)]


class _MadeOf(_Made):
    """The same of a target, which has presets."""

    presets: dict[str, _Made]


class _Names(JsonRecord):
    """Of a report only which files it speaks of."""

    model_config = ConfigDict(extra="ignore")

    targets: dict[str, _MadeOf]


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
    problems += _misstated(folder)
    return problems + [
        problem
        for name, entry in known.items()
        if folder / name not in but and (problem := _difference(folder / name, entry))
    ]


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 by name of every file that the folder's manifest knows."""
    return {name: entry.sha256 for name, entry in _manifest(folder).items()}


def _difference(path: Path, entry: FileEntry) -> str | None:
    """How a file differs from its entry; the size is asked first, as it costs nothing."""
    if not path.exists():
        return f"{path.name} is missing"
    try:
        same_size = path.is_dir() or path.stat().st_size == entry.bytes
        if same_size and stored_file(path).sha256 == entry.sha256:
            return None
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return f"{path.name} is not what {MANIFEST_FILE} says"


def _misstated(folder: Path) -> list[str]:
    """Where there is provenance, it is of this manifest."""
    try:
        require_stated(folder, read_untrusted(folder / PROVENANCE_FILE, MOST_RECORD_BYTES))
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{PROVENANCE_FILE} cannot be read ({error.strerror})"]
    except ConversionError as error:
        return [f"{PROVENANCE_FILE}: {error}"]
    return []


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
        which = "give --target" if target is None else f"it has no {target!r} file, as it was not exported"
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
    names = _read(report, _Names, "report")
    files = {
        f"{name} {preset}".strip(): file.artifact
        for name, target in (names.targets if names else {}).items()
        for preset, file in {"": target, **target.presets}.items()
    }
    for name in files.values():
        if not (report.parent / name).exists():
            raise ConversionError(f"{report.parent / name} is missing, but {report.name} names it; export again")
    return files


def _manifest(folder: Path) -> dict[str, FileEntry]:
    """Digest and size of every file by its name; nothing where there is no manifest."""
    content = _read(folder / MANIFEST_FILE, ManifestJson, "manifest")
    return content.files if content else {}


def _read[R: JsonRecord](path: Path, record: type[R], kind: str) -> R | None:
    """A record of ours; None where there is no such file."""
    try:
        return record.parse(read_untrusted(path, MOST_RECORD_BYTES).decode("utf-8-sig"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConversionError(f"{path} cannot be read ({error.strerror}); export again") from error
    except UnicodeDecodeError as error:
        raise ConversionError(f"{path} is not UTF-8 (byte {error.start}); export again") from error
    except ConversionError as error:
        raise ConversionError(f"{path} is no {kind} of rexnet-export: {error}; export again") from error
