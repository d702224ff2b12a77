"""`manifest.json` (`manifest.schema.json`): every file of an output folder, and what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from rexnet_export.pipeline.core.json_record import JsonRecord, Sha256
from rexnet_export.pipeline.core.records import Count, StoredFile
from rexnet_export.pipeline.core.text import excerpt
from rexnet_export.pipeline.machine.environment import Environment, recorded_environment

LONGEST_NAME = 255  # bytes that a file system takes


def require_member(name: str) -> str:
    """The name; `ValueError` unless it is one of a file beside the record that names it."""
    plain_name = name.isprintable() and len(name.encode()) <= LONGEST_NAME
    if not plain_name or Path(name).name != name or name in {"", ".", ".."}:
        raise ValueError(f"names {excerpt(repr(name))}, which is no file beside it")
    return name


def _members[T](files: dict[str, T]) -> dict[str, T]:
    for name in files:
        require_member(name)
    return files


class FileEntry(JsonRecord):
    """A file, or a folder that is one artifact: the digest of its content, and its bytes."""

    sha256: Sha256
    bytes: Count


class CheckpointEntry(JsonRecord):
    """The checkpoint as it was read."""

    file: str
    sha256: Sha256
    bytes: Count


class MadeFrom(JsonRecord):
    """What the files were made from."""

    checkpoint: CheckpointEntry
    options: dict[str, Any]
    """Everything that was asked for, by the name of its flag with underscores."""
    checkpoint_metadata: dict[str, str]
    """What the checkpoint says of itself, but for a quantization table in it."""


class ManifestJson(JsonRecord):
    """What vouches for an output folder."""

    model_config = ConfigDict(title="Manifest (manifest.json)")

    schema_version: Literal[1] = 1
    inputs: MadeFrom
    files: Annotated[dict[str, FileEntry], Field(min_length=1), AfterValidator(_members)]
    """Every file of the folder but this one, by name."""
    environment: Environment


def made_from(checkpoint: StoredFile, options: Mapping[str, Any], metadata: Mapping[str, str]) -> MadeFrom:
    """The record of an export's inputs; `options` are JSON values."""
    return MadeFrom(
        checkpoint=CheckpointEntry(file=checkpoint.path.name, sha256=checkpoint.sha256, bytes=checkpoint.bytes),
        options=dict(options),
        checkpoint_metadata=dict(sorted(metadata.items())),  # safetensors gives them in any order
    )


def manifest(files: Mapping[str, StoredFile], inputs: MadeFrom) -> ManifestJson:
    """The manifest of `files`, by name, made here and now."""
    return ManifestJson(
        inputs=inputs,
        files={name: FileEntry(sha256=file.sha256, bytes=file.bytes) for name, file in sorted(files.items())},
        environment=recorded_environment(),
    )
