"""Manifests of folders that no export wrote."""

import json
from pathlib import Path

from rexnet_export.pipeline.artifact.manifest import made_from, manifest
from rexnet_export.pipeline.core.records import StoredFile, stored_file


def vouch(folder: Path, **metadata: str) -> Path:
    """Write the manifest of all that is in the folder; `metadata` is what its checkpoint says."""
    files = {path.name: stored_file(path) for path in folder.iterdir() if path.name != "manifest.json"}
    made = made_from(StoredFile(path=Path("network.safetensors"), sha256="a" * 64, bytes=1), {}, metadata)
    (folder / "manifest.json").write_text(json.dumps(manifest(files, made).to_json()), encoding="utf-8")
    return folder
