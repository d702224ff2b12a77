"""`sbom.cdx.json`: a CycloneDX bill of materials of an export, its files and the packages that made them.

https://cyclonedx.org/docs/1.5/json/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from rexnet_export.pipeline.artifact.manifest import MadeFrom
from rexnet_export.pipeline.core.records import StoredFile
from rexnet_export.pipeline.machine.distributions import NAME, Distribution, installed


def sbom(model: str, files: Mapping[str, StoredFile], made: MadeFrom, created: str) -> dict[str, Any]:
    """The bill of an export of `model` with these files, by name; the same export has the same serial number."""
    tools = installed()
    parts = [_model(made), *(_file(name, file) for name, file in sorted(files.items()))]
    identity = "\n".join(f"{part['name']} {part['hashes'][0]['content']}" for part in parts)
    (own,) = (tool for tool in tools if tool.name == NAME)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, identity)}",
        "version": 1,
        "metadata": {
            "timestamp": created.replace("+00:00", "Z"),
            "tools": {"components": [_package(own)]},
            "component": {"type": "machine-learning-model", "bom-ref": "export", "name": model},
        },
        "components": [*parts, *(_package(tool) for tool in tools if tool.name != NAME)],
        "dependencies": [
            {"ref": "export", "dependsOn": [part["bom-ref"] for part in parts]},
            {"ref": own.purl, "dependsOn": [tool.purl for tool in tools if tool.required and tool.name != NAME]},
        ],
    }


def _model(made: MadeFrom) -> dict[str, Any]:
    checkpoint = made.checkpoint
    return {
        "type": "machine-learning-model",
        "bom-ref": "checkpoint",
        "name": checkpoint.file,
        "hashes": [{"alg": "SHA-256", "content": checkpoint.sha256}],
    }


def _file(name: str, file: StoredFile) -> dict[str, Any]:
    """Of a package the hash is that of `manifest.json`: over the names and digests of its files."""
    return {
        "type": "file",
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
    }


def _package(tool: Distribution) -> dict[str, Any]:
    said = {"expression": tool.licence} if tool.is_spdx else {"license": {"name": tool.licence}}
    return {
        "type": "library",
        "bom-ref": tool.purl,
        "name": tool.name,
        "version": tool.version,
        "purl": tool.purl,
        **({"licenses": [said]} if tool.licence else {}),
    }
